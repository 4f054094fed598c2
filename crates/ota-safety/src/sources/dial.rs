//! From the name of a host to a connection. The system's resolver blocks a thread for as long as a dead name server lets it
//! wait, which is longer than any reading may take: such threads are our own, few, and never two for one source.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{
    net::TcpStream,
    sync::{Mutex, Semaphore, oneshot},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Most names that are looked up at a time, of all sources. Of the 128 threads that the unit file allows.
const MOST_LOOKUPS: usize = 16;

static LOOKUPS: Semaphore = Semaphore::const_new(MOST_LOOKUPS);

/// How long an address may keep silent before the next one of the host is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

type Found = io::Result<Vec<SocketAddr>>;
type LookUp = dyn Fn(&str, u16) -> Found + Send + Sync;

/// Looks up the host of one source.
#[derive(Clone)]
pub(super) struct Names {
    look_up: Arc<LookUp>,
    /// What nobody may be waiting for any more. Who asks next takes its answer instead of asking the system again.
    pending: Arc<Mutex<Option<JoinHandle<Found>>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::by(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl Names {
    fn by(look_up: impl Fn(&str, u16) -> Found + Send + Sync + 'static) -> Self {
        Self { look_up: Arc::new(look_up), pending: Arc::default() }
    }

    /// The addresses of `host`, always the same one. May be dropped half way.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Found {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut pending = self.pending.lock().await;
        let ask = || tokio::spawn(on_a_thread(Arc::clone(&self.look_up), host.to_owned(), port));
        let found = pending.get_or_insert_with(ask).await;
        *pending = None;
        found.map_err(io::Error::other)?
    }

    /// A connection to whichever address of `host` answers first.
    pub(super) async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut failure = io::Error::other("the name has no address");
        let mut tries = JoinSet::new();
        for address in self.addresses(host, port).await? {
            tries.spawn(TcpStream::connect(address));
            match timeout(STAGGER, tries.join_next()).await {
                Ok(Some(Ok(Ok(stream)))) => return prompt(stream),
                Ok(Some(Ok(Err(error)))) => failure = error,
                _ => {}
            }
        }
        while let Some(Ok(done)) = tries.join_next().await {
            match done {
                Ok(stream) => return prompt(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let found = names.addresses(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What is said is small: waiting for more would only delay it.
fn prompt(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn on_a_thread(look_up: Arc<LookUp>, host: String, port: u16) -> Found {
    let _turn = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("lookup".into()).spawn(move || {
        // Nobody hears it when the daemon ends.
        let _ = tell.send(look_up(&host, port));
    })?;
    told.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_lookup_that_hangs_is_not_asked_a_second_time_and_its_answer_is_taken_late() {
        let (gate, asked): (Arc<OnceLock<()>>, Arc<AtomicUsize>) = Default::default();
        let (hangs, counted) = (Arc::clone(&gate), Arc::clone(&asked));
        let here = SocketAddr::from(([127, 0, 0, 1], 9));
        let names = Names::by(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            hangs.wait();
            Ok(vec![here])
        });
        for _ in 0..5 {
            timeout(Duration::from_millis(20), names.addresses("plc.local", 9)).await.unwrap_err();
        }
        gate.set(()).unwrap();
        let late = timeout(LONG, names.addresses("plc.local", 9)).await.unwrap().unwrap();
        assert_eq!((late, asked.load(Ordering::Relaxed)), (vec![here], 1));
        timeout(LONG, names.addresses("plc.local", 9)).await.unwrap().unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2, "an answer is taken once");
    }

    /// The daemon has few of the runtime's threads, and its disk work needs them.
    #[test]
    fn lookups_that_hang_take_none_of_the_runtimes_threads() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
        runtime.unwrap().block_on(async {
            let gate: Arc<OnceLock<()>> = Arc::default();
            let all: Vec<Names> = (0..MOST_LOOKUPS / 2)
                .map(|_| {
                    let hangs = Arc::clone(&gate);
                    Names::by(move |_, _| {
                        hangs.wait();
                        Ok(Vec::new())
                    })
                })
                .collect();
            for names in &all {
                timeout(Duration::from_millis(10), names.addresses("plc.local", 9)).await.unwrap_err();
            }
            timeout(LONG, tokio::task::spawn_blocking(|| ())).await.unwrap().unwrap();
            gate.set(()).unwrap();
        });
    }

    #[tokio::test]
    async fn the_address_that_answers_is_taken_and_a_literal_one_is_not_looked_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], ota_testkit::peers::free_port()));
        let names = Names::by(move |_, _| Ok(vec![nobody, there]));
        assert_eq!(names.connect("plc.local", 9).await.unwrap().peer_addr().unwrap(), there);
        assert!(Names::by(move |_, _| Ok(vec![nobody])).connect("plc.local", 9).await.is_err());
        assert!(Names::by(|_, _| Ok(Vec::new())).connect("plc.local", 9).await.is_err());
        let never = Names::by(|_, _| panic!("looked up"));
        assert_eq!(
            never.addresses("::1", 7).await.unwrap(),
            [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7))]
        );
        assert_eq!(never.connect("127.0.0.1", there.port()).await.unwrap().peer_addr().unwrap(), there);
    }
}
