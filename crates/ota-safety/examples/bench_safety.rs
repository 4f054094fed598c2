//! Many constraints on the real clock, in one process, so that whoever starts it can account for all of it.
//!
//! `idle` is the process without a constraint; `fed` hands samples to the engine; `files` lets it read them from small
//! files, as those of sysfs. Options: `--constraints N --hertz N --seconds N --dir FOLDER`. Somebody asks for everything four
//! times a second, as the driver of jobs does. Used by `cargo xtask bench safety`.

use std::{error::Error, fs, path::Path, sync::Arc, time::Duration};

use ota_core::{
    Timestamp,
    ports::{Clock, SafetyGate},
    safety::{ConstraintState, SafetyStep},
};
use ota_safety::{
    SafetyConfig, SafetyEngine, SourceId,
    reading::{Sample, Value},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Arguments {
    constraints: usize,
    hertz: u32,
    seconds: u64,
    dir: String,
}

/// Tokio's clock as ours.
struct RunClock(Instant);

impl Clock for RunClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_secs(1_768_478_400) + self.0.elapsed()
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    fn wall_is_trusted(&self) -> bool {
        true
    }
}

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let measure = words.next().ok_or("which measure? idle, fed, files")?;
    let mut arguments = Arguments::default();
    while let Some(option) = words.next() {
        let value = words.next().ok_or("an option needs a value")?;
        match option.as_str() {
            "--constraints" => arguments.constraints = value.parse()?,
            "--hertz" => arguments.hertz = value.parse()?,
            "--seconds" => arguments.seconds = value.parse()?,
            "--dir" => arguments.dir = value,
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    if measure == "idle" {
        arguments.constraints = 0;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments, measure == "files"))
}

async fn run(arguments: &Arguments, files: bool) -> Outcome<()> {
    let clock = Arc::new(RunClock(Instant::now()));
    let engine = SafetyEngine::new(config(arguments, files)?, clock.clone())?;
    tokio::spawn(Arc::clone(&engine).run(std::future::pending()));
    if !files {
        // A tenth of the sources a task, as connections that carry several.
        let all: Vec<SourceId> =
            (0..arguments.constraints).filter_map(|n| engine.source(&format!("s{n}"))).collect();
        for some in all.chunks(10) {
            let (engine, clock, some) = (Arc::clone(&engine), Arc::clone(&clock), some.to_vec());
            let period = Duration::from_secs(1) / arguments.hertz.max(1);
            tokio::spawn(async move { feed(&engine, &clock, &some, period).await });
        }
    }
    let mut ticks = interval(Duration::from_millis(250));
    let end = sleep(Duration::from_secs(arguments.seconds));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = ticks.tick() => {
                let _ = (engine.report(), engine.judge(SafetyStep::Reboot));
            }
        }
    }
    let ok = engine.report().constraints.iter().filter(|c| c.state == ConstraintState::Ok).count();
    if ok != arguments.constraints {
        return Err(format!("{ok} of {} constraints hold: samples were missed", arguments.constraints).into());
    }
    Ok(())
}

async fn feed(engine: &SafetyEngine, clock: &RunClock, sources: &[SourceId], period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut value = 20.0;
    loop {
        ticks.tick().await;
        value = if value < 60.0 { value + 0.1 } else { 20.0 };
        for source in sources {
            engine
                .observe(*source, Sample { outcome: Ok(Value::Number(value)), taken_at: clock.monotonic() });
        }
    }
}

fn config(arguments: &Arguments, files: bool) -> Outcome<SafetyConfig> {
    let mut text = String::new();
    for n in 0..arguments.constraints {
        let path = Path::new(&arguments.dir).join(format!("s{n}"));
        let (every, max_age) = if files {
            fs::write(&path, "20.5\n")?;
            (format!("{}ms", 1000 / arguments.hertz.max(1)), "5s")
        } else {
            ("1h".to_owned(), "2h")
        };
        text += &format!(
            "[[sources]]\nname = \"s{n}\"\nfile = {{ path = {:?}, every = \"{every}\" }}\n\
             [[constraints]]\nname = \"c{n}\"\nsource = \"s{n}\"\ncondition = {{ max = 80, hysteresis = 5 }}\n\
             max_age = \"{max_age}\"\n",
            path.to_string_lossy()
        );
    }
    Ok(toml::from_str(&text)?)
}
