# What sentences and tables of the book name and no block shows, run on a simulated device in /tmp/gw; $BOOK is the folder of the pages.
# The test reads these lines, too: a command and its options are written out. What is refused here stands behind `ends`.

# Exit code, command.
ends() {
    local wanted=$1 status=0
    shift
    "$@" || status=$?
    [ "$status" = "$wanted" ] || { echo "ended with $status instead of $wanted: $*" >&2; return 1; }
}
# Words, and a command that says them sooner or later.
until_says() {
    local words=$1 end=$((SECONDS + 60))
    shift
    until "$@" 2>/dev/null | grep -q -- "$words"; do
        [ "$SECONDS" -lt "$end" ] || { echo "never said $words: $*" >&2; return 1; }
    done
}
newest() { ota-admin -o jsonl jobs --limit 1 | sed 's/.*"job_id":"\([^"]*\)".*/\1/'; }
cancel_newest() {
    ota-admin cancel "$(newest)" --reason "not today"
    until_says '"status":"cancelled"' ota-admin -o jsonl jobs --limit 1
}

# Looking.
ota-admin openapi > openapi.json
ota-admin completions bash > ota-admin.bash
ota-admin check
ota-admin jobs --limit 2 --offset 0
ota-admin events --since 0 --limit 5
ota-admin top --interval 1 --count 1
ota-admin windows --limit 3
ota-admin explain --strategy immediate

# Tokens, the PIN, a reset: those that need the PIN have none, or a wrong one.
ota-admin token create wall --role viewer --expires-in 30d --to wall.token
chmod 600 wall.token
ota-admin token list
ota-admin token show
ota-admin token revoke wall
echo 48151623 > other.pin
ends 20 ota-admin pin set --first --new-pin-file other.pin
ends 20 ota-admin factory-reset --backup-settings --confirmation "I understand this will erase all data" --pin-file other.pin
ota-gatewayd factory-reset --cancel

# Rules on trial.
ota-gatewayd safety simulate --config "$BOOK/safety/harbour-crane.toml" --trace "$BOOK/safety/heat-wave.jsonl"

# A download that is slow until it is let go.
ota-admin bandwidth set 2k
ota-admin download update_12345 --target B --priority low
until_says '"status":"downloading"' ota-admin -o jsonl progress
ota-admin pause
ota-admin bandwidth set none
ota-admin resume
until_says '"status":"downloaded"' ota-admin -o jsonl progress
ota-admin watch --since 0 --count 1
ota-admin install "$(newest)" --strategy seamless --no-rollback-on-failure --wait --wait-timeout 120
ends 24 ota-admin confirm --reason "all is well"
ends 24 ota-admin reject --reason "the crane stands still"
cancel_newest

# An image of one's own.
ota-admin upload send rootfs.squashfs --release-version v5.1.0 --signature rootfs.squashfs.p7s --verify
ota-admin upload verify rootfs.squashfs
ota-admin upload deploy rootfs.squashfs --release-version v5.1.0 --target B --no-reboot --wait --wait-timeout 120
cancel_newest
ota-admin upload remove rootfs.squashfs

# Safety.
echo moving > /tmp/gw/sensors/crane_motion
until_says '"update_allowed":false' ota-admin -o jsonl safety
ota-admin override on --reason people-are-away --duration 600 --acknowledge-risks --pin-file /tmp/gw/pin
ota-admin override off
echo stopped > /tmp/gw/sensors/crane_motion
until_says '"update_allowed":true' ota-admin -o jsonl safety
ota-admin inhibit --scope switch,reboot --reason calibration --ttl 60 -- ota-admin inhibitors
ends 6 ota-admin inhibitors --release 4711

# The whole way, over the reboot.
ota-admin download update_12345 --wait --wait-timeout 120
ota-admin install "$(newest)" --strategy immediate --reboot-after --wait --wait-timeout 120
ota-admin progress "$(newest)" --wait
ends 10 ota-admin update --latest --yes --strategy immediate --reboot-timeout 60 --wait-timeout 60
ends 22 ota-admin rollback --target-version v9.9.9 --reason "the old one was better" --wait --pin-file /tmp/gw/pin

# Records and snapshots.
from=$(date -u -d '30 days ago' +%FT%TZ) to=$(date -u +%FT%TZ)
ota-admin report --from "$from" --to "$to" --period quarter --file report.csv --format csv
ota-admin audit list --before 5 --limit 2
ota-admin audit list --after 1 --actor admin --action updates. --outcome ok --job "$(newest)" --text update
ota-admin audit export --file audit.csv --format csv
ota-admin snapshot create --description "before the move"
snapshot=$(ota-admin -o jsonl snapshot list | sed 's/.*"id":"\([^"]*\)".*/\1/')
age-keygen -o age.key
ota-admin snapshot restore "$snapshot" --identity-file age.key --yes

# The release engineer's, on files.
ota-admin keygen code-signing --dir ca
ota-admin sign rootfs.squashfs --key ca/signer.key --cert ca/signer.pem --chain ca/ca.pem --to rootfs.squashfs.p7s.2
ota-admin sign rootfs.squashfs --embed --to rootfs.ota --release-version v5.0.5 --model IGW-5000 --note "Fixes" --key ca/signer.key --cert ca/signer.pem
ota-admin sign rootfs.ota --add --to both.ota --key ca/signer.key --cert ca/signer.pem
ota-admin inspect both.ota
mkdir trusted
cp ca/ca.pem trusted/
printf 'ota-key-list 1\nserial 1\nissued 2025-03-10T14:30:00Z\n' > keys.list
ota-admin sign keys.list --key ca/signer.key --cert ca/signer.pem
ota-admin verify rootfs.squashfs --keys trusted --signature rootfs.squashfs.p7s.2 --model IGW-5000 --release-version v5.0.5 --floor v5.0.0 --slot-size 452000000 --threshold 1 --key-list keys.list --key-list-serial 0 --time-floor 2025-03-10T14:30:00Z
# Beside rootfs.squashfs lies a signature of the device's own CA, which would count.
cp rootfs.squashfs plain.squashfs
sha256sum plain.squashfs > SHA256SUMS
ota-admin sign SHA256SUMS --key ca/signer.key --cert ca/signer.pem
ota-admin verify plain.squashfs --keys trusted --checksums SHA256SUMS
mkdir -m 700 gnupg
gpg --homedir gnupg --batch --quiet --passphrase '' --quick-generate-key release@plant.example ed25519 sign never
ota-admin sign rootfs.squashfs --gpg-key release@plant.example --gpg-home gnupg --armor
ota-admin sign rootfs.squashfs --command "gpg --homedir $PWD/gnupg --batch --quiet --detach-sign" --command-writes openpgp --to other.sig
# The script of the trailer's page, with gpg in the place of openssl as the page says.
with_gpg=$(sed -n 's/.*`\(gpg --detach-sign [^`]*\)`.*/\1/p' "$BOOK/image-trailer.md")
sed -n '/^```sh$/,/^```$/p' "$BOOK/image-trailer.md" |
    awk -v gpg="$with_gpg" '/^```/ { next } /^openssl cms/ { print gpg; getline; next } { sub(/cms    /, "openpgp"); print }' > embed.sh
GNUPGHOME=$PWD/gnupg sh embed.sh rootfs.squashfs v5.0.5 squashfs none none by-gpg.ota IGW-5000
mkdir gpg-trusted
gpg --homedir gnupg --batch --export release@plant.example > gpg-trusted/release.gpg
ota-admin verify by-gpg.ota --keys gpg-trusted --model IGW-5000
gpgconf --homedir gnupg --kill all
ota-admin repo init --repo repo --keys tuf-keys
ota-admin -o jsonl repo add rootfs.squashfs --repo repo --keys tuf-keys --model IGW-5000 --release-version v5.0.5 --signature rootfs.squashfs.p7s.2 > added
release=$(sed 's/.*"id":"\([^"]*\)".*/\1/' added)
ota-admin repo remove "$release" --repo repo --keys tuf-keys --model IGW-5000 --channel stable
ota-admin repo publish --repo repo --keys tuf-keys
ota-admin repo publish --repo repo --keys tuf-keys --timestamp-only --timestamp-days 7
ota-admin keygen tuf --repo repo --keys tuf-keys --role timestamp
