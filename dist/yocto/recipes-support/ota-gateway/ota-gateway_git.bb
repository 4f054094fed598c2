SUMMARY = "Over-the-air update gateway with A/B slots and U-Boot"
HOMEPAGE = "https://example.invalid/ota-gateway"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=0a43741a18457b98922f3b862508d7ff \
                    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac"

# Where your copy of the sources is; SRCREV pins the commit.
OTA_GATEWAY_SRC ?= "git:///srv/git/ota-gateway.git;protocol=file;branch=main"
SRC_URI = "${OTA_GATEWAY_SRC}"
SRCREV ?= "${AUTOREV}"
# Where the git fetcher puts them, in releases with UNPACKDIR and before.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/${@d.getVar('BB_GIT_DEFAULT_DESTSUFFIX') or 'git'}"

# Rust >= 1.95: an OE-Core whose rust recipe is as new, or a layer that brings it.
# Crates come from crates.io at build time, pinned by Cargo.lock. For builds without a network run `bitbake -c update_crates
# ota-gateway`, include the file it makes, and take out the three lines behind `inherit`.
inherit cargo cargo-update-recipe-crates systemd useradd pkgconfig bash-completion
CARGO_DISABLE_BITBAKE_VENDORING = "1"
do_compile[network] = "1"
CARGO_BUILD_FLAGS:remove = "--frozen"
CARGO_BUILD_FLAGS += "-p ota-gatewayd -p ota-admin --locked"
# ring and SQLite compile C with the target's compiler, nothing is linked from the sysroot but libc.

# Manual pages and completions are made by the programs themselves, so they are built for the build machine, too:
# PACKAGECONFIG:append:pn-ota-gateway = " manuals"
PACKAGECONFIG ??= ""
PACKAGECONFIG[manuals] = ",,ota-gateway-native"

# The factory reset does nothing where no order lies; its drop-in names the device's own folder and mount (docs/factory-reset.md).
SYSTEMD_SERVICE:${PN} = "ota-gatewayd.service ota-factory-reset.service"
# The first start needs this board's slots in the configuration: the file that OTA_GATEWAY_CONFIG names is installed for that. Without
# one there is none in /etc, and `ota-gatewayd init` writes it on the device.
OTA_GATEWAY_CONFIG ?= ""
SYSTEMD_AUTO_ENABLE = "${@'enable' if d.getVar('OTA_GATEWAY_CONFIG') else 'disable'}"
# The group may read the configuration. tmpfiles.d names it already when the image is built.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system ota-admin"

do_install() {
    install -Dm0755 ${B}/target/${CARGO_TARGET_SUBDIR}/ota-gatewayd ${D}${bindir}/ota-gatewayd
    install -Dm0755 ${B}/target/${CARGO_TARGET_SUBDIR}/ota-admin ${D}${bindir}/ota-admin
    install -Dm0644 ${S}/dist/systemd/ota-gatewayd.service ${D}${systemd_system_unitdir}/ota-gatewayd.service
    install -Dm0644 ${S}/dist/systemd/ota-factory-reset.service ${D}${systemd_system_unitdir}/ota-factory-reset.service
    install -Dm0644 ${S}/dist/sysusers.d/ota-gateway.conf ${D}${nonarch_libdir}/sysusers.d/ota-gateway.conf
    install -Dm0644 ${S}/dist/tmpfiles.d/ota-gateway.conf ${D}${nonarch_libdir}/tmpfiles.d/ota-gateway.conf
    install -Dm0644 ${S}/dist/config/gateway.toml ${D}${datadir}/ota-gateway/gateway.toml
    install -Dm0644 ${S}/dist/keys/README ${D}${datadir}/ota-gateway/keys/README
    install -Dm0644 ${S}/dist/u-boot/ota-boot.cmd ${D}${datadir}/ota-gateway/u-boot/ota-boot.cmd
    install -Dm0644 ${S}/docs/reference/gateway.schema.json ${D}${datadir}/ota-gateway/gateway.schema.json
    install -d ${D}${docdir}/ota-gateway/reference
    for page in cli factory-reset image-trailer images install monitoring operations power-safety recovery safety security snapshots \
        troubleshooting; do
        install -m0644 ${S}/docs/$page.md ${D}${docdir}/ota-gateway
    done
    install -m0644 ${S}/docs/reference/configuration.md ${S}/docs/reference/gateway.schema.json ${D}${docdir}/ota-gateway/reference
}

do_install:append:class-target() {
    if [ -n "${OTA_GATEWAY_CONFIG}" ]; then
        install -d -m0750 -g ota-admin ${D}${sysconfdir}/ota-gateway
        install -m0640 -g ota-admin ${OTA_GATEWAY_CONFIG} ${D}${sysconfdir}/ota-gateway/gateway.toml
    fi
    if ${@bb.utils.contains('PACKAGECONFIG', 'manuals', 'true', 'false', d)}; then
        install -d ${D}${mandir}/man1 ${D}${mandir}/man8 ${D}${datadir}/bash-completion/completions
        ota-admin manual ${D}${mandir}/man1
        ota-gatewayd manual ${D}${mandir}/man8
        for page in ${D}${mandir}/man8/*.1; do mv "$page" "${page%.1}.8"; done
        ota-admin completions bash > ${D}${datadir}/bash-completion/completions/ota-admin
    fi
}

CONFFILES:${PN} = "${sysconfdir}/ota-gateway/gateway.toml"
FILES:${PN} += "${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d ${datadir}/ota-gateway"
# mkfs.ext4 and e2fsck: archives and the factory reset. The certificate authorities that update servers are believed by.
RDEPENDS:${PN}:append:class-target = " e2fsprogs-mke2fs e2fsprogs-e2fsck ca-certificates"

BBCLASSEXTEND = "native"
