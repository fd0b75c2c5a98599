# The one door. CI calls what people call.

# Everything a commit needs to be quick about: format, lints, unit tests.
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace --lib --bins

# Every test. Some fail without faketime and Schemathesis, which `full` installs.
test *ARGS:
    cargo test --workspace {{ARGS}}

# What CI runs. Installs what is missing.
full:
    ./scripts/test.sh

# One seed of the simulator, or as many as it takes by default.
sim SEED="":
    {{ if SEED == "" { "" } else { "NIGHTGATE_SIM_SEED=" + SEED } }} cargo test --release --package nightgate --test sim -- --nocapture

# Figures for docs/PERFORMANCE.md: decisions, a night on the shelf store, the books, the road in and out, and a bulk
# stream of so many lines. PROFILE=quick builds in a third of the time and is a few percent slower.
bench LINES="1000000" PROFILE="bench":
    cargo bench --profile {{PROFILE}} --package nightgate-core --bench decide
    cargo bench --profile {{PROFILE}} --package nightgate --bench night -- all {{LINES}} peers
    cargo bench --profile {{PROFILE}} --package nightgate --bench night -- paced {{LINES}} 500000
    cargo bench --profile {{PROFILE}} --package nightgate --bench books
    cargo bench --profile {{PROFILE}} --package nightgate --bench ingest
    cargo bench --profile {{PROFILE}} --package nightgate --bench release -- {{LINES}} null webhook steps
    cargo bench --profile {{PROFILE}} --package nightgate --features redis --bench redis -- {{LINES}} everysec
    ./scripts/bench_bulk.sh {{LINES}}

# The shelf store beside PostgreSQL, Redis and beanstalkd, in turns. Takes about three minutes a round.
bench-peers *ARGS:
    ./scripts/bench_peers.py {{ARGS}}

# Moving from queue to queue beside the original's way, on an emulator that scripts/test.sh installs. Takes a minute or two.
bench-mover *ARGS:
    ./scripts/bench_mover.py {{ARGS}}

# One, two and four gateways over one Redis and over a cluster: CPU a message.
bench-gateways *ARGS:
    ./scripts/bench_gateways.py {{ARGS}}

# Three gateways over one Redis on a bad evening: a million messages, judged by what arrived.
prove-gateways *ARGS:
    ./scripts/prove_gateways.py {{ARGS}}

# A night in a minute, on this machine, with made-up recipients.
demo *ARGS:
    cargo run --release --package nightgate -- demo {{ARGS}}

# One reader of the store's files, for so many seconds: head, frame, run, manifest, op or block.
fuzz TARGET SECONDS="60" *ARGS:
    ./fuzz/run.sh {{TARGET}} {{SECONDS}} {{ARGS}}
