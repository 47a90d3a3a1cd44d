-- What 0.2.0 brings to a catalogue of 0.1.0. CONTRIBUTING.md says what such a script may do.
\echo Use "ALTER EXTENSION autoembed UPDATE TO '0.2.0'" to load this file. \quit
CREATE FUNCTION autoembed.report(since interval DEFAULT '1 day')
RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000
SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB'
AS 'MODULE_PATHNAME', 'report_wrapper';
COMMENT ON FUNCTION autoembed.report(interval) IS
    'A page of HTML that needs nothing else: throughput, latencies, errors, backlog and cost over the time given, and how things are now; what the views show the caller. As psql -Atc "SELECT autoembed.report()" > report.html.';
