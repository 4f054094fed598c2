# What sentences of the book name for those who change the project, with small figures. In name spaces of its own, in an empty
# folder; $XTASK is the program, $ROOT the checkout, of which nothing is changed. The test reads these lines, too.
set -eu -o pipefail
cargo() (
    cd "$ROOT"
    if [ "$1" = xtask ]; then exec "$XTASK" "${@:2}"; fi
    # What cargo told the test about itself would make build scripts run again.
    unset "${!CARGO_MANIFEST_@}" "${!CARGO_PKG_@}"
    exec cargo "$@"
)

# Every page that is made is written anew; here into a layer above the checkout.
here=$PWD/layer
mkdir "$here"
mount --make-rprivate /
mount -t tmpfs tmpfs "$here"
for folder in docs dist; do
    mkdir "$here/$folder" "$here/$folder.work"
    mount -t overlay overlay -o "lowerdir=$ROOT/$folder,upperdir=$here/$folder,workdir=$here/$folder.work" "$ROOT/$folder"
done
made="docs/job-states.md docs/reference/gateway.schema.json docs/reference/configuration.md docs/reference/api.md
    docs/reference/ota-admin.md docs/reference/ota-gatewayd.md dist/config/gateway.toml"
for page in $made; do
    mkdir -p "kept/${page%/*}"
    cp "$ROOT/$page" "kept/$page"
    echo "an older one" > "$ROOT/$page"
done
cargo xtask pages
for page in $made; do cmp "kept/$page" "$ROOT/$page"; done
umount "$ROOT/docs" "$ROOT/dist"

# Every bench, with its floors and its peers.
cargo xtask bench install --mib 4 --dir "$PWD" --runs 1 --peers --dev
cargo xtask bench verify --mib 4 --runs 1 --dev
cargo xtask bench safety --constraints 20 --hertz 10 --seconds 3 --dev
cargo xtask bench load --dev --mib 1 --rounds 1 --seconds 1
cargo xtask bench upload --dev --peers --mib 4 --rounds 1

# Of whoever changes a safety rule.
cargo test -p ota-safety -p ota-engine
