# The life of the package, under the real systemd in name spaces of its own.
# Arguments: work folder (packages are below it), old package, new package, simulated device.
work=$1 old=$2 new=$3 device=$4
say() { echo "package: $*"; }
# What is made here is read by users of the board, too.
umask 022

# Everything below is seen by this process and its children only, and is gone when they are.
tmp=$work/tmp
mkdir -p "$tmp"
mount -t tmpfs -o size=1g tmpfs "$tmp"
root=$tmp/root
mkdir "$tmp/upper" "$tmp/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$tmp/upper,workdir=$tmp/work" "$root"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for node in null zero full random urandom tty; do cp -a "/dev/$node" "$root/dev/"; done
: >"$root/dev/console"
mkdir -p "$root/mnt/packages"
mount --bind "$work" "$root/mnt/packages"
# Of this machine only the programs: no mounts, no services, no package of ours from before.
: >"$root/etc/fstab"
: >"$root/etc/machine-id"
rm -rf "$root/etc/systemd/system" "$root/etc/ota-gateway" "$root/var/lib/ota-gateway"
mkdir -p "$root/etc/systemd/system"
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-firstboot.service; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
done
cat >"$root/etc/systemd/system/board.target" <<'UNIT'
[Unit]
Description=A board that is up
Requires=basic.target
After=basic.target
AllowIsolate=yes
UNIT

# The slots are block devices, as on a board, and so is a partition that a factory reset makes anew.
truncate -s 16M "$device/data.img"
mkdir -p "$root/dev/disk/by-partlabel"
for image in slots/a slots/b data; do
    # Of a run that was cut off; its file is another one, or gone.
    losetup --list --noheadings --output NAME,BACK-FILE | awk -v file="$device/$image.img" '$2 == file { print $1 }' |
        while read -r stale; do losetup -d "$stale" || true; done
    loop=$(losetup --find --show "$device/$image.img")
    eval "loop_${image#slots/}=$loop"
    cp -a "$loop" "$root/dev/"
done
ln -s "$loop_a" "$root/dev/disk/by-partlabel/root-a"
ln -s "$loop_b" "$root/dev/disk/by-partlabel/root-b"
ln -s "$loop_data" "$root/dev/disk/by-partlabel/data"

# A place for its control groups, which it makes itself.
groups=$(findmnt --noheadings --output TARGET --types cgroup2 | head -n 1)
[ -n "$groups" ] || { echo "no cgroup2 file system is mounted: systemd cannot be tried here" >&2; exit 1; }
group=$(mktemp -d "$groups/ota-package-XXXXXX")
first=
end() {
    status=$?
    if [ $status -ne 0 ] && [ -n "$first" ]; then
        { in_root journalctl --no-pager -n 60 -o cat -u ota-gatewayd -u ota-factory-reset || true; } >&2
        cat "$root/dev/console" >&2
    fi
    [ -z "$first" ] || kill -9 "$first" 2>/dev/null || true
    losetup -d "$loop_a" || true
    losetup -d "$loop_b" || true
    losetup -d "$loop_data" || true
    # Its processes are gone a moment after it.
    for _ in $(seq 50); do
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
        [ -d "$group" ] || break
        sleep 0.1
    done
}
trap end EXIT

cat >"$tmp/init" <<'INIT'
root=$1 group=$2
echo $$ >"$group/cgroup.procs"
exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup sh -euc '
    root=$1
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,ro,bind "$root/proc/sys"
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    exec chroot "$root" /usr/bin/env -i container=ota PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /usr/lib/systemd/systemd --unit=board.target --log-target=console --log-level=notice
' init "$root"
INIT
sh -eu "$tmp/init" "$root" "$group" &
outside=$!
waits() { # what, then a command that comes to be true
    what=$1
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "$what did not come" >&2
    return 1
}
waits "the name spaces" pgrep -P "$outside"
first=$(pgrep -P "$outside")
in_root() { nsenter --target "$first" --mount --pid --ipc --uts --net chroot "$root" "$@"; }
waits "systemd" in_root systemctl is-active board.target
say "systemd is up: $(in_root systemctl --version | head -n 1)"

# What the book shows for a board, a script for each block: run once, where it belongs in the life of a board.
book() { # page and number
    say "the book: $1"
    token=
    [ ! -e "$root/srv/token" ] || token=OTA_TOKEN_FILE=/srv/token
    # Without a terminal the PIN comes from standard input.
    in_root env -C /srv HOME=/root $token bash -eu -o pipefail "/mnt/packages/book/$1.sh" <"$root/srv/pin" >"$tmp/said"
    mv "$work/book/$1.sh" "$work/book/$1.done"
}

say install
echo 8305 >"$root/srv/pin"
cp "$old" "$root/srv/"
book install-2
for file in usr/share/man/man8/ota-gatewayd.8.gz usr/share/man/man1/ota-admin.1.gz usr/share/man/man1/ota-admin-update.1.gz \
    usr/share/bash-completion/completions/ota-admin usr/share/zsh/vendor-completions/_ota-admin \
    usr/share/fish/vendor_completions.d/ota-admin.fish usr/share/ota-gateway/u-boot/ota-boot.cmd \
    usr/share/ota-gateway/grafana/ota-gateway.json usr/share/ota-gateway/prometheus/alerts.yml \
    usr/share/ota-gateway/gateway.schema.json usr/lib/systemd/system/ota-factory-reset.service; do
    [ -s "$root/$file" ] || { echo "$file is not installed" >&2; exit 1; }
done
[ "$(stat -c %a "$root/var/lib/ota-gateway")" = 700 ]
[ "$(in_root stat -c '%a %G' /etc/ota-gateway)" = "750 ota-admin" ]
[ -d "$root/usr/share/ota-gateway/keys" ]
[ "$(in_root stat -c '%a %G' /etc/ota-gateway/gateway.toml)" = "640 ota-admin" ]
in_root systemd-analyze verify ota-gatewayd.service ota-factory-reset.service
[ "$(in_root systemd-escape --path --suffix=mount /data)" = data.mount ]
# At most 3.6 and 1.8 of 10; docs/install.md has the figures.
for unit in ota-gatewayd=36 ota-factory-reset=18; do
    in_root systemd-analyze security --offline=yes "--threshold=${unit#*=}" "${unit%=*}.service" >"$tmp/score" ||
        { cat "$tmp/score" >&2; exit 1; }
    tail -n 1 "$tmp/score"
done
# What is shipped is read, and says that it is no board's own.
in_root ota-gatewayd check-config | tee "$tmp/said"
grep -q "gateway.model is not set" "$tmp/said"
[ "$(in_root systemctl is-enabled ota-gatewayd.service || true)" = disabled ]
# As long as nobody has changed it, it follows the package. A link is kept whose other end is not mounted.
config=$root/etc/ota-gateway/gateway.toml
in_root dpkg --force-unsafe-io -i "/mnt/packages/${new#"$work/"}" >/dev/null </dev/null
grep -q "^# Another remark" "$config"
cmp "$config" "$root/usr/share/ota-gateway/gateway.toml"
[ "$(in_root stat -c '%a %G' /etc/ota-gateway/gateway.toml)" = "640 ota-admin" ]
ln -sf /persist/not-mounted/gateway.toml "$config"
in_root dpkg --force-unsafe-io -i "/mnt/packages/${old#"$work/"}" >/dev/null </dev/null
[ -L "$config" ]
[ ! -e "$config.before" ]
rm "$config"
in_root install -m 0640 -g ota-admin /usr/share/ota-gateway/gateway.toml /etc/ota-gateway/gateway.toml

say "configure, start"
cp -a "$device" "$root/srv/device"
sed -i "s|$device|/srv/device|g" "$root/srv/device/fw_env.config"
printf 'ro ota.slot=A ota.root=root-a\n' >"$root/srv/device/cmdline"
cp "$root/srv/device/fw_env.config" "$root/etc/fw_env.config"
cp "$root/srv/device/keys/root.json" "$root/usr/share/ota-gateway/root.json"
mkdir -p "$root/persist/ota-gateway" "$root/etc/plant" "$root/home/plant"
in_root mkdir /run/plc
in_root cp /srv/device/sensors/crane_motion /run/plc/crane_motion
echo "site = 7" >"$root/etc/plant/site.toml"
# A folder that is nobody else's, not even root's without the right to override that.
echo "12 bar" >"$root/home/plant/recipe"
chown -R 1000:1000 "$root/home/plant"
chmod -R go= "$root/home/plant"
book install-1
# The file of the package gives way without --force; the new one is read by its group, and by nobody else.
book install-3
in_root setpriv --reuid=nobody --regid=ota-admin --clear-groups ota-gatewayd check-config >/dev/null
if in_root setpriv --reuid=nobody --regid=nogroup --clear-groups ota-gatewayd check-config >/dev/null 2>&1; then
    echo "everybody reads the configuration" >&2
    exit 1
fi
sed -i 's|^tries = 3|tries = 3\ncmdline = "/srv/device/cmdline"|' "$config"
# A machine that stands still for some seconds is no sensor that does.
sed -i 's|^file = { path = .*crane_motion"|&, timeout = "30s"|; s|^condition = { equals = "stopped" }|&\nmax_age = "90s"|' "$config"
grep -q 'timeout = "30s"' "$config"
grep -q '^max_age = "90s"' "$config"
cat >>"$config" <<'TOML'
[reboot]
command = ["touch", "/run/ota-gateway/reboot"]
countdown_seconds = 0
[snapshot]
paths = ["/etc/plant", "/home/plant"]
recipients = ["RECIPIENT"]
identity = "/etc/ota-gateway/age.key"
[factory_reset]
enabled = true
dir = "/persist/ota-gateway"
partition = "/dev/disk/by-partlabel/data"
label = "data"
paths = ["/var/lib/ota-gateway", "/home/plant"]
[clock]
trust = "always"
TOML
in_root age-keygen -o /etc/ota-gateway/age.key 2>/dev/null
sed -i "s|RECIPIENT|$(in_root age-keygen -y /etc/ota-gateway/age.key)|" "$config"
in_root ota-gatewayd check-config
book install-4
book factory-reset-1
in_root systemd-analyze verify ota-gatewayd.service ota-factory-reset.service
book install-5
grep -o 'ota_[A-Za-z0-9_-]*' "$tmp/said" | tail -n 1 >"$root/srv/token"
chmod 600 "$root/srv/token"
[ "$(in_root systemctl show -P WatchdogUSec ota-gatewayd.service)" = 30s ]
ota() { in_root env OTA_TOKEN_FILE=/srv/token ota-admin "$@"; }
ota health

say "an update in the sandbox: an archive is unpacked into the other slot"
# Set-user-ID, a capability-like attribute and another owner: what a sandbox is quick to forbid.
mkdir -p "$tmp/tree/usr/bin" "$tmp/tree/etc"
echo true >"$tmp/tree/usr/bin/su"
printf 'ID=gw\nVERSION_ID=5.0.5\n' >"$tmp/tree/etc/os-release"
chown 1000:2000 "$tmp/tree/etc/os-release"
chmod 4755 "$tmp/tree/usr/bin/su"
tar -C "$tmp/tree" --numeric-owner -czf "$root/srv/rootfs.tar.gz" .
in_root ota-admin keygen code-signing --dir /srv/ca >/dev/null
cp "$root/srv/ca/ca.pem" "$root/usr/share/ota-gateway/keys/"
in_root systemctl restart ota-gatewayd.service
echo "an example" >"$root/srv/keys.list"
book security-1
in_root ota-admin sign /srv/rootfs.tar.gz --key /srv/ca/signer.key --cert /srv/ca/signer.pem >/dev/null
ota upload send /srv/rootfs.tar.gz --release-version v5.0.5 --signature /srv/rootfs.tar.gz.p7s --verify
allowed() { ota -o jsonl safety | grep -q '"update_allowed":true'; }
waits "the permission of the crane" allowed
ota upload deploy rootfs.tar.gz --no-reboot --wait
mkdir "$tmp/slot"
mount -o ro "$loop_b" "$tmp/slot"
[ "$(stat -c '%a' "$tmp/slot/usr/bin/su")" = 4755 ]
[ "$(stat -c '%u:%g' "$tmp/slot/etc/os-release")" = 1000:2000 ]
umount "$tmp/slot"
in_root fw_printenv -c /srv/device/fw_env.config | grep -q '^BOOT_ORDER=B A'
ota jobs | head -n 3
ota cancel "$(ota -o jsonl jobs | sed 's/.*"job_id":"\([^"]*\)".*/\1/')"

say "what the book shows of a board that runs"
book monitoring-1
book recovery-1
book recovery-2

say "settings are put back in the sandbox"
id=$(ota -o json snapshot create | sed -n 's/.*"id": "\([^"]*\)".*/\1/p')
echo "site = 8" >"$root/etc/plant/site.toml"
echo "14 bar" >"$root/home/plant/recipe"
ota snapshot restore "$id" --yes
grep -q "site = 7" "$root/etc/plant/site.toml"
grep -q "12 bar" "$root/home/plant/recipe"
# Under the names that the book has for them.
cp "$root/var/lib/ota-gateway/snapshots/$id.tar.zst.age" "$root/srv/SNAP-1763765990000.tar.zst.age"
cp "$root/etc/ota-gateway/age.key" "$root/srv/"
book snapshots-1
grep -q "site = 7" "$root/tmp/look/files/etc/plant/site.toml"

say "upgrade while it runs"
before=$(in_root systemctl show -P MainPID ota-gatewayd.service)
cp "$config" "$tmp/site.toml"
# Nobody is there to be asked, and the new package ships another default.
in_root dpkg --force-unsafe-io -i "/mnt/packages/${new#"$work/"}" >/dev/null </dev/null
cmp "$config" "$tmp/site.toml"
grep -q "^# Another remark" "$root/usr/share/ota-gateway/gateway.toml"
in_root systemctl is-active ota-gatewayd.service
[ "$(in_root systemctl show -P MainPID ota-gatewayd.service)" != "$before" ]
[ "$(in_root systemctl is-enabled ota-gatewayd.service)" = enabled ]
[ "$(in_root systemctl is-enabled ota-factory-reset.service)" = enabled ]
ota status | head -n 2

say "a renewed certificate is taken up by a reload"
pair() { # its name
    in_root openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
        -keyout /etc/ota-gateway/tls.key -out /etc/ota-gateway/tls.pem 2>/dev/null
}
shows() { in_root openssl s_client -connect 127.0.0.1:8080 </dev/null 2>/dev/null | openssl x509 -noout -subject | grep -q "$1"; }
tells() { in_root journalctl -u ota-gatewayd -o cat | grep -q "$1"; }
cp "$config" "$tmp/plain.toml"
sed -i 's|^# \(certificate = "/etc/ota-gateway/tls.pem"\)|\1|; s|^# \(key = "/etc/ota-gateway/tls.key"\)|\1|' "$config"
pair first
in_root systemctl restart ota-gatewayd.service
waits "the first certificate" shows first
before=$(in_root systemctl show -P MainPID ota-gatewayd.service)
pair second
in_root systemctl reload ota-gatewayd.service
waits "the second certificate" shows second
waits "the line about it" tells "^certificate reloaded"
# One that cannot be used is told; the old one stays.
echo "no key" >"$root/etc/ota-gateway/tls.key"
in_root systemctl reload ota-gatewayd.service
waits "the line about what cannot be used" tells "^the certificate was not reloaded"
shows second
in_root systemctl is-active ota-gatewayd.service
[ "$(in_root systemctl show -P MainPID ota-gatewayd.service)" = "$before" ]
cat "$tmp/plain.toml" >"$config"
rm "$root/etc/ota-gateway/tls.key" "$root/etc/ota-gateway/tls.pem"
in_root systemctl restart ota-gatewayd.service

say "a hang is noticed"
printf '[Service]\nWatchdogSec=1s\n' >"$root/etc/systemd/system/ota-gatewayd.service.d/quick.conf"
in_root systemctl daemon-reload
in_root systemctl restart ota-gatewayd.service
# By name: on a slow machine the watchdog may be quicker than a second look at the number.
waits "a process to stop" in_root systemctl kill --kill-whom=main -s STOP ota-gatewayd.service
restarted() { [ "$(in_root systemctl show -P NRestarts ota-gatewayd.service)" -ge 1 ]; }
waits "the restart by the watchdog" restarted
rm "$root/etc/systemd/system/ota-gatewayd.service.d/quick.conf"
in_root systemctl daemon-reload
in_root systemctl restart ota-gatewayd.service
waits "the API" ota health

say "factory reset"
waits "the permission of the crane" allowed
ota factory-reset --confirmation "I understand this will erase all data" --pin-file /srv/pin
waits "the order" test -e "$root/persist/ota-gateway/factory-reset.json"
# The id of a request finds what was logged on its way, not only that it was answered.
ordered='"MESSAGE":"a factory reset is scheduled for the next boot"'
logged() { in_root journalctl -u ota-gatewayd -o json | grep "$ordered" >"$tmp/ordered"; }
waits "the line about the order" logged
id=$(sed -n 's/.*"F_REQUEST_ID":"\([^"]*\)".*/\1/p' "$tmp/ordered")
followed() {
    in_root journalctl "F_REQUEST_ID=$id" -o json >"$tmp/request" && grep -q "$ordered" "$tmp/request" &&
        grep -q '"MESSAGE":"request"' "$tmp/request"
}
waits "both lines of its request" followed
in_root systemctl stop ota-gatewayd.service
book recovery-5
# As at a boot, the name of the partition comes later than the unit.
rm "$root/dev/disk/by-partlabel/data"
in_root systemctl start --no-block ota-factory-reset.service
waits "a reset that waits for its partition" in_root pgrep -f 'factory-reset --apply'
ln -s "$loop_data" "$root/dev/disk/by-partlabel/data"
in_root systemctl start ota-factory-reset.service
in_root systemctl start ota-gatewayd.service
waits "the API" ota health
[ ! -e "$root/persist/ota-gateway/factory-reset.json" ]
[ -d "$root/home/plant" ]
[ -z "$(ls -A "$root/home/plant")" ]
[ "$(e2label "$loop_data")" = data ]
if ota status >/dev/null 2>&1; then
    echo "a token from before the factory reset still opens the gateway" >&2
    exit 1
fi
[ -s "$root/var/lib/ota-gateway/admin.token" ]
book recovery-6
book recovery-3
# Both copies of the environment are bad. Then each is good by itself, with what the board had from the factory.
copies=$root/srv/device/uboot.env
head -c "$(stat -c %s "$copies")" /dev/urandom >"$tmp/copies"
cp "$tmp/copies" "$copies"
echo "bootcmd=run distro_bootcmd" >"$root/srv/u-boot-initial-env"
book recovery-4
cp "$copies" "$tmp/copies"
for offset in $(awk '!/^#/ { print $2 }' "$root/etc/fw_env.config"); do
    dd if=/dev/urandom of="$copies" bs=1 seek="$((offset))" count=64 conv=notrunc 2>/dev/null
    in_root fw_printenv >"$tmp/said"
    grep -q '^BOOT_ORDER=A$' "$tmp/said"
    grep -q '^bootcmd=run distro_bootcmd$' "$tmp/said"
    cp "$tmp/copies" "$copies"
done
[ -z "$(find "$work/book" -name '*.sh')" ]

say "remove and purge"
in_root dpkg -r ota-gateway >/dev/null
[ ! -e "$root/usr/bin/ota-gatewayd" ]
[ "$(in_root systemctl is-active ota-gatewayd.service || true)" != active ]
[ -z "$(in_root pgrep ota-gatewayd || true)" ]
[ -e "$config" ]
in_root dpkg -P ota-gateway
[ ! -e "$config" ]
[ -d "$root/var/lib/ota-gateway" ]
[ -z "$(find "$root/usr/share/ota-gateway" "$root/etc/systemd/system/multi-user.target.wants" -mindepth 1 -name 'ota-*' 2>/dev/null)" ]
