#!/bin/sh
# Compiles crates of ours so that a fuzzer sees which branches were taken, and leaves all others as they are: what runs
# within the compiler can't be counted.
set -eu
case "$*" in
*"--crate-type proc-macro"* | *build_script*) exec "$@" ;;
*"--crate-name trunkline_"* | *"--crate-name config "* | *"--crate-name router "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$@" ;;
esac
