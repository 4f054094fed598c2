//! The configuration file: the only place that reads it, and the shape it has.
//!
//! Every section has defaults for everything that a usual device need not say. Unknown keys are errors; an error names
//! the file, the line and the key.

mod file;
mod http;
mod place;
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
pub(crate) use place::{AtKey, Misfit, in_safety, located};

impl Config {
    /// Reads and checks a configuration file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let config = Self::parse(&text).map_err(|error| anyhow!("{}:{error}", path.display()))?;
        config.check().map_err(|misfit| place::placed(path, &text, &misfit))?;
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
        let document = toml::Deserializer::parse(text).map_err(|error| shape(text, "", &error))?;
        serde_path_to_error::deserialize(document).map_err(|error| {
            let key = error.path().to_string();
            shape(text, &key, error.inner())
        })
    }
}

/// What does not have the shape of a configuration, with its line.
fn shape(text: &str, key: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| place::line_of(text, span.start));
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

    /// What is said of a file with this text.
    fn refusal(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        fs::write(&path, text).unwrap();
        format!("{:#}", Config::load(&path).unwrap_err())
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_file_line_and_key() {
        for (more, word) in [
            ("[boot]\ntries = 9\n", "9: boot.tries: must be 1, 2 or 3, not 9"),
            ("[reboot]\ncommand = []\n", "9: reboot.command: "),
            ("[verify]\nthreshold = 0\n", "9: verify.threshold: "),
            ("[unpack]\nlabel = ''\n", "9: unpack.label: "),
            ("[http]\nlimits = {connections = 0}\n", "9: http.limits.connections: "),
            ("[http]\n\n[http.limits]\nhead_bytes = 65536\n", "11: http.limits.head_bytes: "),
            ("[http]\nlisten = '0.0.0.0:1'\nkey = 'k'\n", "10: http.key: "),
            ("[http]\nclient_ca = 'ca.pem'\n", "9: http.client_ca: "),
            ("[[http.client]]\ncommon_name = 'x'\nrole = 'admin'\n", "8: http.client[0]: "),
            ("[[health.check]]\nname = 'x'\n", "8: health.check[0]: "),
            ("[[health.check]]\nname = 'x'\ncommand = []\n", "10: health.check[0].command: "),
            (
                "[health]\ncheck = [{name = 'x', unit = 'u', timeout_seconds = 0}]\n",
                "9: health.check[0].timeout_seconds: ",
            ),
            ("[snapshot]\npaths = ['etc']\n", "9: snapshot.paths: "),
            ("[factory_reset]\nenabled = true\n", "8: factory_reset.dir: "),
            (
                "[[safety.constraints]]\nname = 'c'\nsource = 's'\ncondition = {equals = 1}\n",
                "10: safety.constraints[0].source: ",
            ),
        ] {
            assert!(
                refusal(&format!("{MINIMAL}{more}")).contains(&format!("c.toml:{word}")),
                "{word}: {}",
                refusal(&format!("{MINIMAL}{more}"))
            );
        }
        assert!(refusal(&MINIMAL.replace("/dev/b", "/dev/a")).contains("c.toml:7: slots.b: "));
        let source =
            "[[source]]\nname='s'\nmetadata_url='https://x/'\ntargets_url='https://x/'\ninitial_root='r'\n";
        assert!(refusal(&format!("{MINIMAL}{source}{source}")).contains("c.toml:14: source[1].name: "));
    }
}
