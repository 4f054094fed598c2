//! The configuration file: the only place that reads it, and the shape it has.
//!
//! Every section has defaults for everything that a usual device need not say. Unknown keys are errors; an error names
//! the file, the line and the key.

mod file;
mod http;
#[cfg(test)]
mod schema;
mod user_data;

use std::{fs, path::Path};

use anyhow::{Context as _, anyhow};
use ota_core::policy::{AutoPolicy, Initiative};
use ota_http::PinOperation;

pub(crate) use file::{
    ClockTrust, Config, HealthCheck, HealthConfig, LogConfig, LogFormat, Purpose, SourceSection,
};
pub(crate) use http::ClientAuth;

impl Config {
    /// Reads and checks a configuration file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let config = Self::parse(&text).map_err(|error| anyhow!("{}:{error}", path.display()))?;
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    /// How far the gateway goes by itself with what `source` offers. Nobody types the PIN for it: where an install needs that,
    /// it only downloads.
    pub(crate) fn policy_of(&self, source: &SourceSection) -> AutoPolicy {
        if self.pin.require_for.contains(&PinOperation::Install) {
            source.policy.at_most(Initiative::Download)
        } else {
            source.policy
        }
    }

    /// `Err` is `line: key: what is wrong`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
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
    fn limits_clients_and_pin_rules_are_taken_over_and_what_is_left_out_stays() {
        let text = format!(
            "{MINIMAL}[http]\nlisten='0.0.0.0:443'\nclient_ca='ca.pem'\nclient_auth='optional'\n\
             limits={{connections=9, head_seconds=3}}\n[[http.client]]\nuri='spiffe://x'\nname='x'\nrole='operator'\n\
             [pin]\nrequire_for=['install']\n"
        );
        let config = Config::parse(&text).unwrap();
        config.check().unwrap();
        let limits = config.http.limits.limits();
        assert_eq!((limits.connections, limits.head_time.as_secs(), limits.head_bytes), (9, 3, 16 * 1024));
        assert_eq!(config.http.clients().entries[0].name, "x");
        assert_eq!(config.pin.require_for.into_iter().collect::<Vec<_>>(), [PinOperation::Install]);
        assert_eq!(Config::parse(MINIMAL).unwrap().pin, ota_http::PinRules::default());
    }

    #[test]
    fn what_is_left_out_of_the_file_has_the_default_limits() {
        let config = Config::parse(&format!("{MINIMAL}[http]\nlimits = {{}}\n")).unwrap();
        assert_eq!(config.http.limits.limits(), ota_http::Limits::default());
        assert_eq!(Config::parse(MINIMAL).unwrap().http.limits.limits(), ota_http::Limits::default());
        assert_eq!(config.auto.demand_seconds, 10);
    }

    #[test]
    fn a_gateway_that_wants_a_pin_for_installs_does_not_install_by_itself() {
        let source = "[[source]]\nname='s'\nmetadata_url='https://x/'\ntargets_url='https://x/'\ninitial_root='r'\n\
                      policy = {normal='notify', critical='install'}\n";
        let config = Config::parse(&format!("{MINIMAL}{source}")).unwrap();
        assert_eq!(config.policy_of(&config.sources[0]), config.sources[0].policy);
        let config = Config::parse(&format!("{MINIMAL}{source}[pin]\nrequire_for=['install']\n")).unwrap();
        let capped = AutoPolicy { normal: Initiative::Notify, critical: Initiative::Download };
        assert_eq!(config.policy_of(&config.sources[0]), capped);
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
            ("[http]\nlimits = {connections = 0}\n", "http.limits.connections"),
            ("[http]\nlimits = {head_bytes = 65536}\n", "http.limits.head_bytes"),
            ("[http]\nclient_ca = 'ca.pem'\n", "http.client_ca"),
            ("[[http.client]]\ncommon_name = 'x'\nrole = 'admin'\n", "http.client_ca"),
        ] {
            let error = Config::parse(&format!("{MINIMAL}{more}")).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        let same = MINIMAL.replace("/dev/b", "/dev/a");
        assert!(Config::parse(&same).unwrap().check().unwrap_err().to_string().contains("slots"));
    }
}
