#!/usr/bin/env bash
# Runs crane, oras, regctl and skopeo against cache directories and prints what
# came of it, as the tables of docs/compatibility.md. It fails if the cache
# breaks, or if a reading does not come out as is written here.
#
#   interop/clients.sh            needs go, and skopeo or apt-get as root
#   CLIENTS_BIN=DIR clients.sh    keeps the programs that it builds in DIR
set -uo pipefail
cd "$(dirname "$0")" || exit 1

tmp=$(mktemp -d)
bin=${CLIENTS_BIN:-$tmp/bin}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
registry_pid=
cleanup() {
	if [ -n "$registry_pid" ]; then kill "$registry_pid"; fi
	rm -rf "$tmp"
}
trap cleanup EXIT

die() {
	echo "clients.sh: $*" >&2
	exit 1
}

# The programs are of the versions that the tests use as libraries.
mkdir "$tmp/tools"
cat >"$tmp/tools/go.mod" <<'EOF'
module tools

go 1.26.0

require (
	github.com/google/go-containerregistry v0.22.1
	github.com/regclient/regclient v0.11.7
	oras.land/oras v1.2.3
)
EOF
build() { # NAME PACKAGE
	[ -x "$bin/$1" ] && return
	(cd "$tmp/tools" && go build -mod=mod -o "$bin/$1" "$2") || die "cannot build $1"
}
build crane github.com/google/go-containerregistry/cmd/crane
build oras oras.land/oras/cmd/oras
build regctl github.com/regclient/regclient/cmd/regctl
go build -o "$tmp/mkcache" ./mkcache || die "cannot build mkcache"
if ! command -v skopeo >/dev/null; then
	{ [ "$(id -u)" = 0 ] && command -v apt-get; } >/dev/null || die "skopeo is not installed"
	{ apt-get update && apt-get install -y --no-install-recommends skopeo; } >/dev/null || die "cannot install skopeo"
fi
export PATH=$tmp:$bin:$PATH HOME=$tmp/home
mkdir "$HOME"
cd "$tmp" || exit 1

# A registry with two images in it, for the tools to copy from and to.
mkcache image theirs && mkcache shared shared || die "mkcache image"
crane registry serve --address 127.0.0.1:0 2>registry.log &
registry_pid=$!
port=
for _ in $(seq 50); do
	port=$(sed -n 's/.*serving on port //p' registry.log)
	[ -n "$port" ] && break
	sleep 0.1
done
[ -n "$port" ] || die "the registry does not start"
reg=127.0.0.1:$port
for image in theirs shared; do
	crane push $image "$reg/$image:v1" >/dev/null 2>&1 || die "crane push"
done
digest=$(crane digest "$reg/theirs:v1")
regctl registry set --tls disabled "$reg" >/dev/null 2>&1
echo "some text" >file.txt
failed=0

# state prints what may not change when a directory is only read.
state() { (cd "$1" && cat index.json && find . -type f | sort); }

# brief prints the last line of an error without what differs from run to run.
brief() {
	tail -n 1 "$1" | sed -E '
		s/^(Error: |time=[^ ]* level=[^ ]* msg=)//
		s/(sha256:)?[0-9a-f]{64}/DIGEST/g
		s/127\.0\.0\.1:[0-9]+/REGISTRY/g
		s/\\?"//g
		s/\{.*\} //
		s/\|/\\|/g' | cut -c1-120
}

# reads EXPECTED LABEL COMMAND...: EXPECTED is a digest, which is what must be
# on stdout, or ok, or fails.
reads() {
	local expected=$1 label=$2 got outcome
	shift 2
	if ! "$@" >out 2>err; then
		got=fails outcome="no: \`$(brief err)\`"
	elif [ "sha256:$(sha256sum <out | cut -d' ' -f1)" = "$expected" ]; then
		got=$expected outcome="yes, the right bytes"
	elif [ -s out ] || [ "$expected" != ok ]; then
		got=ok outcome=yes
	else
		got=ok outcome="yes, prints nothing"
	fi
	if [ "$(state cache)" != "$before" ]; then
		got=changed outcome="$outcome; **it changed the directory**"
	fi
	echo "| \`$label\` | $outcome |"
	if [ "$got" != "$expected" ]; then
		echo "clients.sh: $label: $got, expected $expected" >&2
		cat err >&2
		failed=1
	fi
}

mkcache fill cache >list.txt || die "mkcache fill"
blob=$(sed -n 's/^blob //p' list.txt | head -n 1)
tar=$(sed -n 's/^tar //p' list.txt | head -n 1)
before=$(state cache)

echo "Versions: crane $(crane version), oras $(oras version | sed -n 's/^Version: *//p'), regctl $(regctl version | sed -n 's/^VCSTag: *//p'), $(skopeo --version)."
echo
echo "| reading | does it work |"
echo "|---|---|"
reads "$blob" "oras blob fetch --oci-layout DIR@DIGEST" oras blob fetch --oci-layout "cache@$blob" --output -
reads "$tar" "oras blob fetch --oci-layout DIR@DIFFID" oras blob fetch --oci-layout "cache@$tar" --output -
reads ok "oras blob fetch --descriptor --oci-layout DIR@DIGEST" oras blob fetch --descriptor --oci-layout "cache@$blob"
reads "$blob" "oras manifest fetch --oci-layout DIR@DIGEST" oras manifest fetch --oci-layout "cache@$blob"
reads ok "oras resolve --oci-layout DIR@DIGEST" oras resolve --oci-layout "cache@$blob"
reads ok "oras repo tags --oci-layout DIR" oras repo tags --oci-layout cache
reads fails "oras discover --oci-layout DIR@DIGEST" oras discover --oci-layout "cache@$blob"
reads ok "oras cp --from-oci-layout DIR@DIGEST --to-oci-layout OTHER:TAG" oras cp --from-oci-layout "cache@$blob" --to-oci-layout other:one
reads "$blob" "regctl blob get ocidir://DIR DIGEST" regctl blob get ocidir://cache "$blob"
reads "$tar" "regctl blob get ocidir://DIR DIFFID" regctl blob get ocidir://cache "$tar"
reads ok "regctl blob head ocidir://DIR DIGEST" regctl blob head ocidir://cache "$blob"
reads ok "regctl blob copy ocidir://DIR REGISTRY/REPO DIGEST" regctl blob copy ocidir://cache "$reg/one" "$blob"
reads fails "regctl manifest get ocidir://DIR@DIGEST" regctl manifest get "ocidir://cache@$blob"
reads ok "regctl tag ls ocidir://DIR" regctl tag ls ocidir://cache
reads fails "skopeo inspect --raw oci:DIR" skopeo inspect --raw oci:cache
reads fails "skopeo copy oci:DIR dir:OTHER" skopeo --insecure-policy copy oci:cache dir:other.dir
reads fails "crane push DIR REGISTRY/REPO:TAG" crane push cache "$reg/cache:v1"
reads fails "crane push --index DIR REGISTRY/REPO:TAG" crane push --index cache "$reg/cache:v1"
echo

# writes LABEL COMMAND READBACK [PREPARE]: runs COMMAND on a directory $d that
# was flushed, and on one whose process died before it could. Then the cache
# fills again, and READBACK reads what the tool wrote.
writes() {
	local label=$1 command=$2 readback=$3 prepare=${4:-true} row="| \`$1\` |" how kept after=
	for how in fill crash; do
		d=dir-$how
		rm -rf "$d" pulled
		eval "$prepare" >out 2>err || { cat err >&2 && die "prepare $label"; }
		mkcache "$how" "$d" >/dev/null || die "mkcache $how"
		if ! eval "$command" >out 2>err; then
			row="$row it fails (\`$(brief err)\`);"
		fi
		if ! kept=$(mkcache check "$d"); then
			failed=1 kept="**the cache fails**"
		fi
		row="$row $kept |"
		if ! { mkcache fill "$d" >/dev/null && kept=$(mkcache check "$d"); }; then
			failed=1 kept="**the cache fails**"
		fi
		if ! eval "$readback" >out 2>err; then
			kept="$kept, theirs is gone (\`$(brief err)\`)"
		fi
		[ "$after" = "$kept" ] || after="${after:+$after; }$kept"
	done
	echo "$row $after |"
}

echo "| writing | layers left, index.json was up to date | layers left, all was in the journal | after the cache filled again |"
echo "|---|---|---|---|"
writes "crane pull --format=oci REGISTRY/IMAGE DIR" \
	'crane pull --format=oci --annotate-ref $reg/theirs:v1 $d' \
	'oras manifest fetch --oci-layout $d@$digest'
writes "skopeo copy docker://REGISTRY/IMAGE oci:DIR:TAG" \
	'skopeo --insecure-policy copy --src-tls-verify=false docker://$reg/theirs:v1 oci:$d:theirs' \
	'skopeo inspect oci:$d:theirs'
writes "oras push --oci-layout DIR:TAG FILE" \
	'oras push --oci-layout $d:theirs file.txt' \
	'oras pull --oci-layout $d:theirs -o pulled'
writes "oras cp REGISTRY/IMAGE --to-oci-layout DIR:TAG" \
	'oras cp --from-plain-http $reg/theirs:v1 --to-oci-layout $d:theirs' \
	'oras manifest fetch --oci-layout $d:theirs'
writes "oras blob push --oci-layout DIR FILE" \
	'oras blob push --oci-layout $d file.txt' \
	'oras blob fetch --oci-layout $d@sha256:$(sha256sum <file.txt | cut -d" " -f1) --output -'
writes "oras tag --oci-layout DIR@DIGEST TAG" \
	'oras tag --oci-layout $d@$blob theirs' \
	'oras resolve --oci-layout $d:theirs'
writes "oras blob delete --oci-layout DIR@DIGEST" \
	'oras blob delete --force --oci-layout $d@$blob' \
	'true'
writes "oras manifest delete --oci-layout DIR:TAG (another tag stays)" \
	'oras manifest delete --force --oci-layout $d:other' \
	'oras pull --oci-layout $d:theirs -o pulled' \
	'oras push --oci-layout $d:theirs file.txt && oras push --oci-layout $d:other list.txt'
writes "oras manifest delete --oci-layout DIR:TAG (the last tag)" \
	'oras manifest delete --force --oci-layout $d:theirs' \
	'true' \
	'oras push --oci-layout $d:theirs file.txt'
writes "oras manifest delete --oci-layout DIR:TAG (of an image with 3 of the layers)" \
	'oras manifest delete --force --oci-layout $d:theirs' \
	'true' \
	'oras cp --from-plain-http $reg/shared:v1 --to-oci-layout $d:theirs'
writes "regctl image copy REGISTRY/IMAGE ocidir://DIR:TAG" \
	'regctl image copy $reg/theirs:v1 ocidir://$d:theirs' \
	'regctl manifest get ocidir://$d:theirs'
writes "regctl artifact put ocidir://DIR:TAG" \
	'regctl artifact put --artifact-type application/vnd.example ocidir://$d:theirs <file.txt' \
	'regctl artifact get ocidir://$d:theirs'
writes "regctl blob put ocidir://DIR" \
	'regctl blob put ocidir://$d <file.txt' \
	'true'
writes "regctl tag delete ocidir://DIR:TAG" \
	'regctl tag delete ocidir://$d:theirs' \
	'true' \
	'oras push --oci-layout $d:theirs file.txt'
writes "regctl tag delete ocidir://DIR:TAG (of an image with 3 of the layers)" \
	'regctl tag delete ocidir://$d:theirs' \
	'true' \
	'oras cp --from-plain-http $reg/shared:v1 --to-oci-layout $d:theirs'
exit $failed
