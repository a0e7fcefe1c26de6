#!/usr/bin/env bash
# Runs what measures and collects its figures, one line each: `figure NAME VALUE UNIT`. See benches/README.md.
set -euo pipefail

out=${1:?"usage: figures.sh OUT"}
out=$(realpath -m "$out")
cd "$(dirname "$0")/.."

# Every figure that must come out, and its target where there is one.
wanted="
decide_warm_100_p50_us <= 20
decide_warm_100_p99_us <= 50
decide_memo_hit_100_p50_us
decide_memo_miss_100_p50_us
grpc_ratio_allow_all >= 0.6
grpc_ratio_allow_all_memo >= 0.8
grpc_warm_p50_us
grpc_warm_p99_us
uds_over_tcp_cpu
envoy_ratio_allow_all
forged_1m_rss_growth_mib
flood_good_hit_rate >= 0.99
flood_good_p99_ratio <= 2
first_use_1000_verifications == 1
first_use_1000_introspections == 1
revocation_last_allow_ms <= 1000
revocation_two_process_ms <= 1000
warm_jwt_us
warm_introspection_us
warm_transaction_token_us
warm_certificate_us
warm_api_key_us
warm_basic_us
warm_dpop_us
cold_rs256_us
cold_rs384_us
cold_rs512_us
cold_ps256_us
cold_ps384_us
cold_ps512_us
cold_es256_us
cold_es384_us
cold_eddsa_us
signature_rs256_us
signature_rs384_us
signature_rs512_us
signature_ps256_us
signature_ps384_us
signature_ps512_us
signature_es256_us
signature_es384_us
signature_eddsa_us
rss_idle_mib
decide_10000_over_10 <= 1.3
entities_100k_over_100 <= 1.1
bundle_10000_load_s <= 5
bundle_10000_load_cpu_s
bundle_10000_rss_mib
entities_100k_load_s
entities_100k_rss_mib
slice_checked_sets
"

if [ ! -x "${CARDEA_ENVOY:-}" ]; then
  echo "error: CARDEA_ENVOY names no Envoy; run \`make figures\`, which installs one" >&2
  exit 1
fi
if [ ! -x "${CARDEA_REDIS:-}" ]; then
  echo "error: CARDEA_REDIS names no Redis or Valkey; run \`make figures\`, which installs one" >&2
  exit 1
fi
if ! command -v h2load >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: h2load is needed; install the package nghttp2-client (Debian, Ubuntu) or nghttp2 (Fedora, Homebrew)" >&2
    exit 1
  fi
  echo "installing h2load (package nghttp2-client)" >&2
  { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends nghttp2-client; } >/dev/null
fi

# Built first, so that nothing compiles while something is measured.
cargo bench --locked --no-run --bench decide --bench identity --bench scale --bench load
cargo test --locked --no-run --lib

mkdir -p "$(dirname "$out")"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "# $(uname -sm), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg), $(rustc --version)"
for bench in decide identity scale load; do
  # The servers' own log lines are JSON objects, and no figures.
  cargo bench --locked --quiet --bench "$bench" | grep -v '^{' | tee -a "$log"
done

scripts/plot-scale.py "${CARGO_TARGET_DIR:-target}/criterion" benches

# How many generated policy sets were judged as Cedar judges them. This one is a test: it measures nothing.
CARDEA_ORACLE_SETS="${CARDEA_ORACLE_SETS:-1000}" cargo test --locked --quiet --lib a_slice_says_what_cedar_says -- --nocapture |
  grep '^figure ' | tee -a "$log"

grep '^figure ' "$log" >"$out"
missing=0
while read -r name relation target; do
  [ -n "$name" ] || continue
  value=$(awk -v name="$name" '$2 == name { print $3 }' "$out")
  if ! [[ $value =~ ^-?[0-9]+(\.[0-9]+)?$ ]]; then
    echo "error: the figure $name is missing" >&2
    missing=1
  elif [ -n "$relation" ]; then
    awk -v v="$value" -v t="$target" -v r="$relation" 'BEGIN { exit !(r == "<=" ? v <= t : r == ">=" ? v >= t : v == t) }' ||
      echo "# target missed: $name is $value, wanted $relation $target"
  fi
done <<<"$wanted"
exit "$missing"
