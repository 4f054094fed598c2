#!/bin/sh
# RUSTC_WRAPPER of `cargo xtask vm`: links the daemon, and nothing else, against a static glibc, so that the guest needs no
# libraries. Whether glibc is linked statically is decided when the program is linked, so nothing below it is compiled again.
case " $* " in *" --crate-name ota_gatewayd "*) exec "$@" -C target-feature=+crt-static ;; esac
exec "$@"
