#!/usr/bin/env bash
# The demonstration: real abstracts and page images into PostgreSQL, embedded through the extension, then questions.
# Run by `make demo`, which sets all it needs: INFINITY_API_URL, and PGHOST, PGPORT and PGUSER of a cluster that has the
# extension installed. PSQL (or BINDIR) names the psql, PGDATABASE the database, which is DROPPED and made anew;
# INFINITY_MODEL_NAME the model, by default the server's first that takes images.
# Exits 1 if the first hit of any question is not the one in expected.tsv.
set -euo pipefail
cd "$(dirname "$0")"

url=${INFINITY_API_URL:?names the Infinity server, such as http://127.0.0.1:7997}
psql=${PSQL:-${BINDIR:+$BINDIR/}psql}
export PGDATABASE=${PGDATABASE:-infinity_embed_demo}
bold=
plain=
if [ -t 1 ]; then
    bold=$'\e[1m'
    plain=$'\e[0m'
fi

heading() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# One statement or more from standard input; without a file name, messages come without one too.
sql() {
    "$psql" --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@"
}

# The statements' own progress messages, as they come.
embed() {
    sql 2>&1 | sed --unbuffered 's/^INFO: / /'
}

value() {
    sql --tuples-only --no-align --field-separator $'\t' "$@"
}

fresh_database() {
    sql --dbname postgres --set database="$PGDATABASE" --set url="$url" <<'SQL'
SET client_min_messages = warning;
DROP DATABASE IF EXISTS :"database";
CREATE DATABASE :"database" ENCODING 'UTF8' TEMPLATE template0;
ALTER DATABASE :"database" SET infinity_embed.url = :'url';
SQL
    sql <tables.sql
    local model=${INFINITY_MODEL_NAME:-}
    if [ -z "$model" ]; then
        model=$(value <<<"SELECT id FROM infinity_embed_models() WHERE 'image_embed' = ANY (capabilities) LIMIT 1")
    fi
    sql --set database="$PGDATABASE" --set model="$model" \
        <<<"ALTER DATABASE :\"database\" SET infinity_embed.model_name = :'model'"
}

load() {
    local file
    sql --command "COPY abstracts FROM STDIN" <abstracts.tsv
    for file in pages/*.png questions/*.png; do
        printf '%s\t\\\\x%s\n' "$file" "$(od -An -v -tx1 "$file" | tr -d ' \n')"
    done | sql --command "COPY images FROM STDIN"
}

microseconds() {
    echo "${EPOCHREALTIME/[.,]/}"
}

# Prints a question, its hits with scores, the seconds it took, and whether the first hit is the expected one.
ask() {
    local kind=$1 question=$2 expected=$3 hits first started elapsed verdict=
    started=$(microseconds)
    hits=$(value --set question="$question" <"$kind.sql")
    elapsed=$(($(microseconds) - started))
    first=$(head -n 1 <<<"$hits" | cut -f 1)
    if [ "$first" != "$expected" ]; then
        verdict="   WRONG: expected $expected first"
        wrong=$((wrong + 1))
    fi
    asked=$((asked + 1))
    printf '\n%s? %s%s   (%d.%02d s)%s\n' "$bold" "$question" "$plain" \
        $((elapsed / 1000000)) $((elapsed / 10000 % 100)) "$verdict"
    awk -F '\t' '{ printf "  %d. %7.2f  %-10s %s\n", NR, $2, $1, $3 }' <<<"$hits"
}

ask_all() {
    local wanted=$1 kind question expected
    heading "$2"
    sed 's/^/    /' "$wanted.sql"
    while IFS=$'\t' read -r kind question expected; do
        if [ "$kind" = "$wanted" ]; then
            ask "$kind" "$question" "$expected"
        fi
    done <expected.tsv
}

asked=0
wrong=0
heading "Loading $(wc -l <abstracts.tsv) SciFact abstracts and $(ls pages/*.png | wc -l) page images into $PGDATABASE"
fresh_database
load
value --expanded --field-separator ': ' <<<"SELECT * FROM infinity_embed_health()" | sed 's/^/  /'
heading "Embedding the abstracts"
embed <embed_passages.sql
heading "Embedding the page images"
embed <embed_pages.sql
value <<<"SELECT format('  %s token vectors of %s values', sum(multivector_tokens(embedding)), max(multivector_dims(embedding)))
          FROM (SELECT embedding FROM passages UNION ALL SELECT embedding FROM pages) AS embedded"
ask_all text_to_text "Text to text: which abstract bears on the claim?"
ask_all text_to_image "Text to image: which page answers the question?"
ask_all image_to_image "Image to image: which page is like this one?"

heading "$((asked - wrong)) of $asked questions found the expected row first; $SECONDS s in all"
cat <<END
To go on by hand:
  $psql --host ${PGHOST:-localhost} --port ${PGPORT:-5432} --username ${PGUSER:-$(id -un)} $PGDATABASE
  => SELECT title FROM passages ORDER BY embedding @# (SELECT infinity_embed_text('vitamin D and bone density')) LIMIT 3;
END
[ "$wrong" -eq 0 ]
