-- What autoembed does, drawn anew every two seconds, for a terminal of 80 columns or more: psql -d mydb -f examples/watch.sql
-- Ctrl-C ends it. Control characters in names and messages, which would be the terminal's, are shown as question marks. With -v clear= the screen is not cleared, for a file or to scroll back.
\set QUIET 1
\pset format unaligned
\pset tuples_only on
\if :{?clear}
\else
    \set clear '\033[H\033[2J'
\endif

SELECT line
FROM (
    SELECT 0 AS part, 0 AS n,
           concat(:'clear', 'autoembed in ', current_database(), ', ', to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS TZ'), E'\n\n',
                  rpad('table', 33), lpad('waiting', 10), lpad('in hand', 9), lpad('given up', 10), lpad('rows/s', 10)) AS line
    UNION ALL
    SELECT 1, row_number() OVER (ORDER BY t.state NOT LIKE 'blocked%', t.state NOT LIKE 'active: %', s.source::text, s.embedding::text),
           concat(CASE WHEN length(t.name) > 28 THEN left(t.name, 13) || '..' || right(t.name, 13) ELSE rpad(t.name, 28) END,
                  CASE WHEN t.state LIKE 'blocked%' THEN ' [!!]' WHEN t.state = 'paused' THEN ' [--]' WHEN t.state = 'active' THEN ' [ok]' ELSE ' [..]' END,
                  lpad(COALESCE(s.pending::text, '?'), 10), lpad(COALESCE(s.in_flight::text, '?'), 9), lpad(COALESCE(s.failed::text, '?'), 10),
                  lpad(COALESCE(round(s.rows_per_second::numeric, 1)::text, '-'), 10),
                  -- Why, and what to do, in lines of their own; of what mends itself one.
                  CASE WHEN t.state LIKE 'blocked%' THEN rtrim(E'\n' || regexp_replace(left(t.state, 500), '(.{1,72})(\s+|$)', E'     \\1\n', 'g'), E'\n')
                       WHEN t.state LIKE 'active: %' THEN concat(E'\n     ', left(t.state, 72), CASE WHEN length(t.state) > 72 THEN '...' END) END)
    FROM autoembed.status s CROSS JOIN LATERAL (SELECT regexp_replace(concat(s.source, '.', s.embedding), '[[:cntrl:]]', '?', 'g') AS name,
                                                 regexp_replace(s.state, '[[:cntrl:]]', '?', 'g') AS state) t
    UNION ALL
    SELECT 1, 0, 'no table here is kept embedded that this role may read' WHERE NOT EXISTS (SELECT FROM autoembed.status)
    UNION ALL
    SELECT 2, 0, E'\nnothing is under way' WHERE NOT EXISTS (SELECT FROM autoembed.progress)
    UNION ALL
    SELECT 2, row_number() OVER (ORDER BY p.source::text, p.embedding::text, p.kind),
           concat(CASE WHEN row_number() OVER (ORDER BY p.source::text, p.embedding::text, p.kind) = 1 THEN E'\n' END,
                  CASE WHEN length(t.name) > 42 THEN left(t.name, 20) || '..' || right(t.name, 20) ELSE rpad(t.name, 42) END,
                  ' ', p.bar, lpad(to_char(p.percent, 'FM990.0'), 6), E' %\n     ',
                  concat_ws(E'\n     ',
                            NULLIF(concat_ws(', ', p.rows_done || COALESCE(' of about ' || p.rows_total, '') || ' rows', p.rows_per_second || ' rows/s', 'done in ' || p.eta), ''),
                            NULLIF(left(t.state, 75), 'running')))
    FROM autoembed.progress p CROSS JOIN LATERAL (SELECT regexp_replace(concat(p.kind, ' ', p.source, '.', p.embedding), '[[:cntrl:]]', '?', 'g') AS name,
                                                   regexp_replace(p.state, '[[:cntrl:]]', '?', 'g') AS state) t
) lines
ORDER BY part, n
\watch 2
