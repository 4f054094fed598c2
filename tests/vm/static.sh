#!/bin/sh
# RUSTC_WRAPPER of `cargo xtask vm`: links the daemon, and nothing else, against a static glibc, so that the guest needs no
# libraries. Whether glibc is linked statically is decided when the program is linked, so nothing below it is compiled again.
# Not relocatable, without symbols, equal functions folded (rustc links with its own LLD): the guest handles each byte of it.
case " $* " in *" --crate-name ota_gatewayd "*) exec "$@" -C target-feature=+crt-static -C relocation-model=static -C strip=symbols -C link-arg=-Wl,--icf=all ;; esac
exec "$@"
