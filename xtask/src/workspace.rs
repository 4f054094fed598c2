//! The workspace as `cargo metadata` tells it, our packages and the edges between them and to the outside; and which files stand
//! below a folder of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::Value;

use crate::process;

/// Our packages.
pub(crate) struct Workspace {
    /// Every member, by name.
    pub(crate) members: BTreeMap<String, Member>,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
}

/// One package of ours.
pub(crate) struct Member {
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// What it asks for, as its manifest says.
    pub(crate) dependencies: BTreeSet<Dependency>,
}

/// One line of a `[dependencies]` table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dependency {
    /// Name of the package.
    pub(crate) name: String,
    /// Which table it stands in.
    pub(crate) kind: Kind,
    /// How the code calls it.
    pub(crate) extern_name: String,
}

/// Which table a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `[dependencies]`, `[build-dependencies]`.
    Normal,
    /// `[dev-dependencies]`.
    Dev,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = process::read(process::cargo().args(["metadata", "--format-version", "1"]))?;
        Self::parse(&serde_json::from_slice(&text).context("cargo metadata is not JSON")?)
    }

    fn parse(metadata: &Value) -> anyhow::Result<Self> {
        let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
        let extern_names = library_names(packages);
        let ours: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
        let mut members = BTreeMap::new();
        for package in packages.iter().filter(|p| p["id"].as_str().is_some_and(|id| ours.contains(id))) {
            let name = package["name"].as_str().context("package without name")?;
            members.insert(name.to_owned(), Member::parse(package, &extern_names)?);
        }
        let target =
            metadata["target_directory"].as_str().context("cargo metadata without target directory")?;
        Ok(Self { members, target: target.into() })
    }
}

impl Member {
    fn parse(package: &Value, extern_names: &BTreeMap<&str, String>) -> anyhow::Result<Self> {
        let manifest = PathBuf::from(package["manifest_path"].as_str().context("package without manifest")?);
        let dir = manifest.parent().context("manifest without folder")?.to_path_buf();
        let mut dependencies = BTreeSet::new();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["name"].as_str().context("dependency without name")?;
            let kind = if dependency["kind"] == "dev" { Kind::Dev } else { Kind::Normal };
            let renamed = dependency["rename"].as_str().map(|name| name.replace('-', "_"));
            let extern_name =
                renamed.or_else(|| extern_names.get(name).cloned()).unwrap_or_else(|| name.replace('-', "_"));
            dependencies.insert(Dependency { name: name.to_owned(), kind, extern_name });
        }
        Ok(Self { dir, dependencies })
    }
}

/// Every file below a folder, in the order of their paths; build output is left out.
pub(crate) fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = entry?.path();
            if !path.is_dir() {
                found.push(path);
            } else if !path.ends_with("target") {
                open.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn library_names(packages: &[Value]) -> BTreeMap<&str, String> {
    let mut names = BTreeMap::new();
    for package in packages {
        let mut targets = package["targets"].as_array().into_iter().flatten();
        let library = targets.find(|t| strings(&t["kind"]).any(|k| k.ends_with("lib") || k == "proc-macro"));
        if let (Some(name), Some(library)) =
            (package["name"].as_str(), library.and_then(|t| t["name"].as_str()))
        {
            names.insert(name, library.replace('-', "_"));
        }
    }
    names
}

fn strings(array: &Value) -> impl Iterator<Item = &str> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str)
}
