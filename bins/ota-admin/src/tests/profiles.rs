//! Profiles: what they say, what wins over them, what is refused about their file.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::{Value, json};

use super::{NOW, Run, fake::Fake, run_in};
use crate::connect::Environment;

/// A home with a file of profiles.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn with(text: &str) -> Self {
        let home = Self::empty();
        fs::create_dir_all(home.file().parent().unwrap()).unwrap();
        fs::write(home.file(), text).unwrap();
        home.mode(0o600);
        home
    }

    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(".config/ota-admin/profiles.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.file(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn environment(&self) -> Environment {
        let home = self.folder.path().to_owned();
        Environment { profiles: Some(self.file()), home: Some(home), ..Environment::default() }
    }

    async fn run(&self, args: &[&str]) -> Run {
        let mut run = run_in(args, self.environment(), NOW).await;
        let home = self.folder.path().display().to_string();
        (run.out, run.err) = (run.out.replace(&home, "HOME"), run.err.replace(&home, "HOME"));
        run
    }
}

async fn gateway() -> Fake {
    let fake = Fake::start().await;
    fake.answers("GET updates/check", json!({"available": false, "updates": []}));
    fake
}

#[tokio::test]
async fn a_profile_says_where_the_gateway_is_who_asks_and_how_it_is_printed() {
    let fake = gateway().await;
    let text =
        format!("[profile.crane]\nurl = '{}'\ntoken_file = '~/crane.token'\noutput = 'jsonl'\n", fake.url());
    let home = Home::with(&text);
    fs::write(home.folder.path().join("crane.token"), "of-the-crane\n").unwrap();
    let run = home.run(&["--profile", "crane", "check"]).await;
    assert_eq!(run.out, "{\"available\":false,\"updates\":[]}\n", "{}", run.err);
    assert_eq!(fake.tokens(), ["Bearer of-the-crane"]);
    let typed = home.run(&["--profile", "crane", "-o", "table", "check"]).await;
    assert_eq!(typed.out, "no update is on offer\n");
}

#[tokio::test]
async fn the_default_counts_when_none_is_named_and_no_file_is_no_error() {
    let (fake, other) = (gateway().await, gateway().await);
    let text =
        format!("default = 'a'\n[profile.a]\nurl = '{}'\n[profile.b]\nurl = '{}'\n", fake.url(), other.url());
    let home = Home::with(&text);
    assert_eq!(home.run(&["check"]).await.exit, 0);
    assert_eq!((fake.requests().len(), other.requests().len()), (1, 0));
    assert_eq!(home.run(&["check", "--profile", "b"]).await.exit, 0);
    assert_eq!((fake.requests().len(), other.requests().len()), (1, 1));
    assert_eq!(Home::empty().run(&["--url", &fake.url(), "check"]).await.exit, 0);
}

#[tokio::test]
async fn option_before_environment_before_profile() {
    let fake = gateway().await;
    let home = Home::with("[profile.p]\nurl = 'http://127.0.0.1:9'\ntoken = 'of-the-file'\ntimeout = 1\n");
    let typed = home.folder.path().join("typed.token");
    fs::write(&typed, "of-the-option").unwrap();
    fs::set_permissions(&typed, fs::Permissions::from_mode(0o600)).unwrap();
    let args = ["--profile", "p", "--url", &fake.url(), "check"];
    let lent = home.run(&args).await;
    assert!(lent.err.contains("the token is that of profile p, and "), "{}", lent.err);
    let environment = Environment { token: Some("of-the-environment".into()), ..home.environment() };
    let run = run_in(&args, environment.clone(), NOW).await;
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
    let option = [&args[..], &["--token-file", typed.to_str().unwrap()]].concat();
    run_in(&option, environment, NOW).await;
    assert_eq!(fake.tokens(), ["Bearer of-the-file", "Bearer of-the-environment", "Bearer of-the-option"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_file_is_told_with_line_and_key() {
    let mut told = String::new();
    for text in [
        "[profile.a]\nurl = 'http://gw'\nurll = 'x'\n",
        "[profile.a]\nurl = 'ftp://gw'\n",
        "[profile.a\n",
        "[profile.a]\ntimeout = 0\n",
        "[profile.a]\ntimeout = 'soon'\n",
        "[profile.a]\noutput = 'xml'\n",
        "[profile.a]\ntoken = 12345\n",
        "[profile.a]\ntoken = 'not secret'\n",
        "[profile.a]\ntoken = 'x'\ntoken_file = 'y'\n",
        "[profile.a]\nclient_key = 'y'\n",
        "# one\ndefault = 'b'\n[profile.a]\n",
    ] {
        let run = Home::with(text).run(&["--profile", "a", "check"]).await;
        assert_eq!((run.exit, run.out.as_str()), (2, ""), "{text}");
        assert!(!run.err.contains("12345") && !run.err.contains("not secret"), "{}", run.err);
        told.push_str(&run.err);
    }
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn an_unknown_profile_is_told_with_those_that_there_are() {
    let home = Home::with("[profile.a]\n[profile.b]\n");
    let run = home.run(&["--profile", "c", "check"]).await;
    let sentence = "HOME/.config/ota-admin/profiles.toml has no profile c; it has a, b";
    assert_eq!((run.exit, run.err), (2, format!("error: {sentence}\n")));
    let run = home.run(&["-o", "json", "--profile", "c", "check"]).await;
    let failure: Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!((&failure["message"], &failure["exit_code"]), (&json!(sentence), &json!(2)));
    let run = Home::empty().run(&["--profile", "c", "check"]).await;
    assert_eq!(run.exit, 2);
    assert!(run.err.ends_with("ota-admin profile add c --url URL makes it\n"), "{}", run.err);
}

#[tokio::test]
async fn a_token_in_a_file_that_others_can_read_is_not_used() {
    let fake = gateway().await;
    let home =
        Home::with(&format!("[profile.a]\nurl = '{0}'\n[profile.b]\nurl = '{0}'\ntoken = 'x'\n", fake.url()));
    assert_eq!(home.run(&["--profile", "a", "check"]).await.exit, 0);
    for mode in [0o644, 0o640, 0o602] {
        home.mode(mode);
        let run = home.run(&["--profile", "a", "check"]).await;
        assert_eq!(run.exit, 2);
        let sentence = format!("profile.b.token: others can read this file (mode {mode:04o}); chmod 600 it");
        assert!(run.err.contains(&sentence), "{}", run.err);
    }
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_home_without_profiles_runs_everything_but_profiles() {
    let fake = gateway().await;
    assert_eq!(run_in(&["--url", &fake.url(), "check"], Environment::default(), NOW).await.exit, 0);
    for args in [&["--profile", "a", "check"][..], &["profile", "list"]] {
        let run = run_in(args, Environment::default(), NOW).await;
        assert_eq!((run.exit, run.err.contains("XDG_CONFIG_HOME")), (2, true), "{}", run.err);
    }
}

#[tokio::test]
async fn profiles_are_added_listed_shown_used_and_removed() {
    let home = Home::empty();
    let mut said = String::new();
    for line in [
        "profile list",
        "profile add crane-7 --url https://gw7.example --token-file /etc/ota/gw7.token --ca /etc/ota/ca.pem --timeout 5 -o json",
        "profile add crane.8 --url http://10.0.0.8:8080/v1/ota --client-cert /etc/ota/ada.pem --client-key /etc/ota/ada.key",
        "profile use crane.8",
        "profile list",
        "profile list -o jsonl",
        "profile show",
        "profile show crane-7",
        "profile show crane-7 -o json",
        "profile add crane-7 --url http://gw",
        "profile add ../x --url http://gw",
        "profile add y",
        "profile use nobody",
        "profile remove crane.8",
        "profile show",
        "profile remove crane.8",
    ] {
        let run = home.run(&line.split(' ').collect::<Vec<_>>()).await;
        said.push_str(&format!("$ ota-admin {line}\n{}{}[{}]\n", run.out, run.err, run.exit));
    }
    said.push_str(&format!("==== profiles.toml\n{}", home.text()));
    insta::assert_snapshot!(said);
    let modes = [home.file(), home.file().parent().unwrap().to_owned()]
        .map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777);
    assert_eq!(modes, [0o600, 0o700]);
}

#[tokio::test]
async fn a_change_keeps_remarks_and_order_and_what_it_does_not_follow_it_leaves_alone() {
    let text = "# ours\n\n# the old one\n[profile.old]\nurl = 'http://old' # till May\n\n# the new one\n[profile.new]\nurl = \"http://new\"\n";
    let home = Home::with(text);
    assert_eq!(home.run(&["profile", "use", "new"]).await.exit, 0);
    assert_eq!(home.text(), format!("# ours\ndefault = \"new\"\n{}", text.split_once('\n').unwrap().1));
    assert_eq!(home.run(&["profile", "remove", "old"]).await.exit, 0);
    let left =
        "# ours\ndefault = \"new\"\n\n# the old one\n\n# the new one\n[profile.new]\nurl = \"http://new\"\n";
    assert_eq!(home.text(), left);
    let inline = "profile = { a = { url = 'http://a' } }\n";
    let home = Home::with(inline);
    let run = home.run(&["profile", "remove", "a"]).await;
    assert_eq!((run.exit, run.err.contains("edit it by hand")), (2, true), "{}", run.err);
    assert_eq!(home.text(), inline);
}

#[tokio::test]
async fn the_example_of_the_page_is_read() {
    let page = include_str!("../../../../docs/cli.md");
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let run = Home::with(example).run(&["profile", "list"]).await;
    assert_eq!(run.exit, 0, "{}", run.err);
    assert!(
        run.out.contains("HOME/.config/ota-admin/crane-7.token") && run.out.contains("pump"),
        "{}",
        run.out
    );
}
