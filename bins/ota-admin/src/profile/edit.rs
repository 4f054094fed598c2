//! Changes of the profiles file as text, so that remarks and order stay as the operator wrote them.
//!
//! What a change has made is read again before it is written: where a file is written in a way that the change does not follow,
//! nothing is written and the operator is told to edit it.

use std::{fs, io::Write as _, os::unix::fs::DirBuilderExt as _, path::Path};

use anyhow::Context as _;

use super::{Profile, Profiles, Secret};
use crate::{exit::Failure, output::Format};

/// First line of a new file.
const TITLE: &str = "# Gateways that ota-admin knows by name. Who may read this file may not read the token files it names.\n";

/// The file, and what it says; an absent one is empty.
pub(crate) struct Book<'a> {
    path: &'a Path,
    text: String,
    pub(crate) profiles: Profiles,
}

impl<'a> Book<'a> {
    /// Reads it; `~` stays as it is written.
    pub(crate) fn open(path: &'a Path, home: Option<&Path>) -> Result<Self, Failure> {
        let profiles = Profiles::load(path, home)?.unwrap_or_default();
        let text = if path.exists() {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        Ok(Self { path, text, profiles })
    }

    /// Appends a profile.
    pub(crate) fn add(&self, name: &str, profile: &Profile) -> Result<(), Failure> {
        if self.profiles.all.contains_key(name) {
            let path = self.path.display();
            return Err(Failure::Usage(format!(
                "{path} has a profile {name} already; ota-admin profile remove {name} first"
            )));
        }
        let mut text = if self.text.is_empty() { TITLE.to_owned() } else { self.text.clone() };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("\n{}\n", header(name)));
        for (key, value) in lines(profile) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        let mut wanted = self.written()?;
        wanted.all.insert(name.to_owned(), profile.clone());
        self.write(&text, &wanted)
    }

    /// Takes a profile out, and with it the remarks inside of it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        let mut wanted = self.written()?;
        if wanted.all.remove(name).is_none() {
            return Err(self.unknown(name));
        }
        let mut text = without_table(&self.text, &header(name));
        if wanted.default.as_deref() == Some(name) {
            wanted.default = None;
            text = with_default(&text, None);
        }
        self.write(&text, &wanted)
    }

    /// Makes a profile the one that counts when none is named.
    pub(crate) fn make_default(&self, name: &str) -> Result<(), Failure> {
        let mut wanted = self.written()?;
        if !wanted.all.contains_key(name) {
            return Err(self.unknown(name));
        }
        wanted.default = Some(name.to_owned());
        self.write(&with_default(&self.text, Some(name)), &wanted)
    }

    fn unknown(&self, name: &str) -> Failure {
        let (path, wanted) = (self.path.to_owned(), name.to_owned());
        super::BadProfiles::Unknown { path, wanted, known: self.profiles.names() }.into()
    }

    /// What the text says, with its paths as they are written.
    fn written(&self) -> Result<Profiles, Failure> {
        Ok(Profiles::parse(self.path, &self.text)?)
    }

    fn write(&self, text: &str, wanted: &Profiles) -> Result<(), Failure> {
        if Profiles::parse(self.path, text).ok().as_ref() != Some(wanted) {
            return Err(Failure::Usage(format!(
                "{} is written in a way that this command does not follow; nothing is changed, edit it by hand",
                self.path.display()
            )));
        }
        Ok(keep(self.path, text).with_context(|| format!("cannot write {}", self.path.display()))?)
    }
}

/// All or nothing, for the operator alone; a link stays a link.
fn keep(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let target = if path.exists() { path.canonicalize()? } else { path.to_owned() };
    let mut file = tempfile::NamedTempFile::new_in(target.parent().context("it has no folder")?)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}

/// Whether a name can stand in the file as the commands write it.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn header(name: &str) -> String {
    if name.contains('.') { format!("[profile.\"{name}\"]") } else { format!("[profile.{name}]") }
}

/// Keys and values as they are written. Never a token: nothing that was typed is one.
fn lines(profile: &Profile) -> Vec<(&'static str, String)> {
    let text = |text: String| toml::Value::String(text).to_string();
    let path = |path: &std::path::PathBuf| text(path.display().to_string());
    let token_file = match &profile.token {
        Some(Secret::File(file)) => Some(path(file)),
        Some(Secret::Here(_)) | None => None,
    };
    let all = [
        ("url", profile.url.as_ref().map(|url| text(url.to_string()))),
        ("token_file", token_file),
        ("ca", profile.ca.as_ref().map(path)),
        ("client_cert", profile.client_cert.as_ref().map(path)),
        ("client_key", profile.client_key.as_ref().map(path)),
        ("timeout", profile.timeout.map(|seconds| seconds.to_string())),
        ("output", profile.output.map(Format::word).map(|word| text(word.to_owned()))),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The text without the table of this header; remarks and blank lines before the next table are the next one's.
fn without_table(text: &str, header: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some(start) = lines.iter().position(|line| line.trim() == header) else { return text.to_owned() };
    let is_table = |line: &&str| line.trim_start().starts_with('[');
    let mut end = lines[start + 1..].iter().position(is_table).map_or(lines.len(), |more| start + 1 + more);
    let is_beside = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    while end < lines.len() && end > start + 1 && is_beside(lines[end - 1]) {
        end -= 1;
    }
    [&lines[..start], &lines[end..]].concat().concat()
}

/// The text with another default, or without one.
fn with_default(text: &str, name: Option<&str>) -> String {
    let line = name.map(|name| format!("default = {}\n", toml::Value::String(name.to_owned())));
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let top = lines.iter().position(|line| line.trim_start().starts_with('[')).unwrap_or(lines.len());
    let is_default = |line: &&str| line.split_once('=').is_some_and(|(key, _)| key.trim() == "default");
    match (lines[..top].iter().position(is_default), &line) {
        (Some(at), Some(line)) => lines[at] = line,
        (Some(at), None) => drop(lines.remove(at)),
        // Behind the remarks that begin the file.
        (None, Some(line)) => {
            let at = lines.iter().take_while(|line| line.starts_with('#')).count();
            lines.insert(at, line);
        }
        (None, None) => {}
    }
    lines.concat()
}
