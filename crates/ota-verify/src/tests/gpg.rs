//! Keys and signatures by the `gpg` program, each set in a home of its own.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use tempfile::TempDir;

use super::world::{IMAGE, program, read, run, write};

pub(super) struct Gpg(TempDir);

impl Gpg {
    pub(super) fn new() -> Self {
        let gpg = Self(tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap());
        write(gpg.dir(), "image", IMAGE);
        gpg
    }

    /// With one key `signer` that signs with its primary key.
    pub(super) fn with_signer(algorithm: &str) -> Self {
        let gpg = Self::new();
        gpg.key("signer", algorithm, "sign", "2y");
        gpg
    }

    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let fixed = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        run(
            "gpg",
            program("gpg").current_dir(self.dir()).env("GNUPGHOME", self.dir()).args(fixed).args(arguments),
        )
        .stdout
    }

    pub(super) fn key(&self, name: &str, algorithm: &str, usage: &str, expires: &str) {
        self.gpg(&[
            "--quick-generate-key",
            &format!("{name} <{name}@example.org>"),
            algorithm,
            usage,
            expires,
        ]);
    }

    pub(super) fn fingerprint(&self, name: &str) -> String {
        let listing = String::from_utf8(self.gpg(&["--with-colons", "--fingerprint", name])).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// Public keys of `name` as a file of the key folder, armoured.
    pub(super) fn export(&self, name: &str) -> PathBuf {
        let bytes = self.gpg(&["--armor", "--export", name]);
        write(self.dir(), &format!("{name}.asc"), &bytes)
    }

    /// A detached signature over the file `image`, binary.
    pub(super) fn sign(&self, name: &str) -> Vec<u8> {
        self.sign_with(name, &[])
    }

    pub(super) fn sign_with(&self, name: &str, more: &[&str]) -> Vec<u8> {
        let fixed = ["--local-user", name, "--output", "signature", "--detach-sign", "image"];
        self.gpg(&[more, &fixed[..]].concat());
        read(&self.dir().join("signature"))
    }

    /// Takes the key back by the certificate that gpg made with it.
    pub(super) fn revoke(&self, name: &str) {
        let path = self.dir().join("openpgp-revocs.d").join(format!("{}.rev", self.fingerprint(name)));
        // gpg puts a colon in front so that nobody imports it by accident.
        let text = String::from_utf8(read(&path)).unwrap().replace(":-----BEGIN", "-----BEGIN");
        let revocation = write(self.dir(), "revocation", text.as_bytes());
        self.gpg(&["--import", revocation.to_str().unwrap()]);
    }

    /// Answers to the prompts of `--edit-key`.
    pub(super) fn edit(&self, name: &str, answers: &str) {
        let fixed =
            ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--command-fd", "0"];
        let mut command = program("gpg");
        command.current_dir(self.dir()).env("GNUPGHOME", self.dir()).args(fixed).args(["--edit-key", name]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Gpg {
    /// The agent that gpg started for this home.
    fn drop(&mut self) {
        let ended = program("gpgconf").env("GNUPGHOME", self.dir()).args(["--kill", "all"]).output();
        drop(ended);
    }
}
