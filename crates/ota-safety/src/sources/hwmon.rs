//! Channels of hwmon chips, by the chip's name.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Serialize};

use super::{
    Opened, check_period,
    file::{self, plain},
    rounds::Reading,
    second,
    system::TIMEOUT,
};
use crate::reading::Fault;

/// A channel of a hwmon chip by the chip's name, which stays while its number changes with every boot. Two of one name are a
/// fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HwmonConfig {
    /// Name of the chip, `nct6775`.
    pub chip: String,
    /// Name of the channel's file, `temp1_input`. Milli-degrees and so on, as the kernel has them: see `scale`.
    pub channel: String,
    /// Pause between two readings, default 1 s.
    #[serde(with = "duration", default = "second")]
    pub every: Duration,
    /// Where the kernel shows them, default `/sys/class/hwmon`.
    #[serde(default = "default_hwmon")]
    pub root: PathBuf,
}

fn default_hwmon() -> PathBuf {
    "/sys/class/hwmon".into()
}

impl HwmonConfig {
    pub(super) fn source(&self) -> Result<Opened, String> {
        check_period(self.every, TIMEOUT)?;
        plain(&self.channel)?;
        let Self { chip, channel, root, .. } = self.clone();
        let read = move || file::read(&chip_dir(&root, &chip)?.join(&channel), false);
        Ok(Opened::Blocking(Reading::new(self.every, TIMEOUT, read)))
    }
}

/// Of two chips of one name nobody can tell which is meant, and their order changes with every boot.
fn chip_dir(root: &Path, chip: &str) -> Result<PathBuf, Fault> {
    let absent = || Fault::Absent(format!("no chip {chip:?} in {}", root.display()));
    let entries = fs::read_dir(root).map_err(|_| absent())?;
    let named = |dir: &PathBuf| fs::read_to_string(dir.join("name")).is_ok_and(|name| name.trim() == chip);
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named);
    match (found.next(), found.next()) {
        (None, _) => Err(absent()),
        (Some(only), None) => Ok(only),
        (Some(one), Some(other)) => Err(Fault::Unreadable(format!(
            "{} and {} are both {chip:?}: read one as a file below its device",
            one.display(),
            other.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reading::Value, sources::test_feed::one_sample};

    #[tokio::test]
    async fn a_chip_is_found_by_its_name_and_two_of_one_name_are_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        for (number, name, value) in [(0, "other", "1"), (1, "nct6775", "48500\n")] {
            let chip = dir.path().join(format!("hwmon{number}"));
            fs::create_dir(&chip).unwrap();
            fs::write(chip.join("name"), format!("{name}\n")).unwrap();
            fs::write(chip.join("temp1_input"), value).unwrap();
        }
        let root = dir.path().to_path_buf();
        let hwmon = |chip: &str| HwmonConfig {
            chip: chip.into(),
            channel: "temp1_input".into(),
            every: second(),
            root: root.clone(),
        };
        assert_eq!(one_sample(|_| hwmon("nct6775").source()).await, Ok(Value::Number(48500.0)));
        assert!(matches!(one_sample(|_| hwmon("gone").source()).await, Err(Fault::Absent(_))));
        fs::write(dir.path().join("hwmon0/name"), "nct6775\n").unwrap();
        let twins = one_sample(|_| hwmon("nct6775").source()).await;
        assert!(matches!(&twins, Err(Fault::Unreadable(why)) if why.contains("hwmon0")), "{twins:?}");
    }
}
