#!/usr/bin/env bash
# Installs a built daemon: `install.sh BINARY FOLDER` puts it into FOLDER/bin without symbols, and what a debugger and a
# backtrace need beside it, where they look for it.
set -euo pipefail
binary=$1
folder=$2/bin
mkdir -p "$folder/.debug"
objcopy --only-keep-debug --compress-debug-sections "$binary" "$folder/.debug/airlock.debug"
# Under another name until it is whole: a daemon that runs keeps its file.
strip --strip-all -o "$folder/.airlock.new" "$binary"
(cd "$folder/.debug" && objcopy --add-gnu-debuglink=airlock.debug ../.airlock.new)
chmod 755 "$folder/.airlock.new"
mv -f "$folder/.airlock.new" "$folder/airlock"
