#!/bin/sh
# Roles and the database, made when the volume is new. Each role can do what it must and no more.
set -eu
psql -v ON_ERROR_STOP=1 --username postgres \
    -v sentinel="$SENTINEL_DB_PASSWORD" -v reader="$SENTINEL_READER_PASSWORD" -v aureus="$AUREUS_DB_PASSWORD" <<'SQL'
create role sentinel login password :'sentinel';
create database sentinel owner sentinel;
revoke connect on database sentinel from public;

-- Reads the evidence of every application database, and what sessions do; writes nothing.
create role sentinel_reader login password :'reader' connection limit 20;
grant pg_read_all_data, pg_read_all_stats to sentinel_reader;
alter role sentinel_reader set default_transaction_read_only = on;
alter role sentinel_reader set statement_timeout = '5s';

-- The stand-in makes its own databases.
create role aureus login createdb password :'aureus';
SQL
