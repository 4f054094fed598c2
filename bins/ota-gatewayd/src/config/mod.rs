//! The configuration file: the only place that reads it, and the shape it has.
//!
//! Every section has defaults for everything that a usual device need not say. Unknown keys are errors; an error names
//! the file, the line and the key.

mod file;
mod user_data;

use std::{fs, path::Path};

use anyhow::{Context as _, anyhow};

pub(crate) use file::{ClockTrust, Config, HealthCheck, HealthConfig, LogConfig, LogFormat, SourceSection};

impl Config {
    /// Reads and checks a configuration file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let config = Self::parse(&text).map_err(|error| anyhow!("{}:{error}", path.display()))?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    /// `Err` is `line: key: what is wrong`.
    fn parse(text: &str) -> Result<Self, String> {
        let document = toml::Deserializer::parse(text).map_err(|error| place(text, "", &error))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let key = error.path().to_string();
            place(text, &key, error.inner())
        })
    }
}

fn place(text: &str, key: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let key = if key.is_empty() || key == "." { String::new() } else { format!("{key}: ") };
    format!("{line}: {key}{}", error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[gateway]\nname='g'\nmodel='M'\nserial='S'\n[slots]\na='/dev/a'\nb='/dev/b'\n";

    #[test]
    fn a_minimal_file_has_defaults_for_the_rest() {
        let config = Config::parse(MINIMAL).unwrap();
        config.check().unwrap();
        assert_eq!(config.boot.tries, 3);
        assert!(!config.verify.allow_unsigned);
        assert!(config.http.listen.ip().is_loopback());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Config::parse(&format!("{MINIMAL}[boot]\ntrys = 3\n")).unwrap_err();
        assert!(error.starts_with("9: ") && error.contains("trys"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_key() {
        let error = Config::parse(&format!("{MINIMAL}[boot]\ntries = 'three'\n")).unwrap_err();
        assert!(error.contains("boot.tries"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for (more, word) in [
            ("[boot]\ntries = 9\n", "boot.tries"),
            ("[reboot]\ncommand = []\n", "reboot.command"),
            ("[verify]\nthreshold = 0\n", "verify.threshold"),
        ] {
            let error = Config::parse(&format!("{MINIMAL}{more}")).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        let same = MINIMAL.replace("/dev/b", "/dev/a");
        assert!(Config::parse(&same).unwrap().check().unwrap_err().to_string().contains("slots"));
    }
}
