-- What autoembed does, drawn anew every two seconds: psql -d mydb -f examples/watch.sql
-- Ctrl-C ends it.
\set QUIET 1
\pset border 0
\pset footer off
\pset null '-'
\pset title 'autoembed: tables, then what is under way'

SELECT line
FROM (
    SELECT 0 AS part, row_number() OVER (ORDER BY s.state LIKE 'active%', s.source::text) AS n,
           format('%s %s %s waiting  %s in hand  %s failed  %s rows/s  %s',
                  rpad(left(concat(s.source, '.', s.embedding), 28), 28),
                  CASE WHEN s.state LIKE 'blocked%' THEN '[!!]' WHEN s.state = 'paused' THEN '[--]' ELSE '[ok]' END,
                  lpad(COALESCE(s.pending::text, '?'), 9), lpad(COALESCE(s.in_flight::text, '?'), 6), lpad(COALESCE(s.failed::text, '?'), 5),
                  lpad(COALESCE(round(s.rows_per_second::numeric, 1)::text, '-'), 8),
                  CASE WHEN s.state <> 'active' THEN left(s.state, 120) END) AS line
    FROM autoembed.status s
    UNION ALL
    SELECT 1, row_number() OVER (ORDER BY p.source::text, p.kind),
           format('%s %s %s %%%s  %s rows/s  %s  %s',
                  rpad(left(concat(p.kind, ' ', p.source), 28), 28), p.bar, lpad(p.percent::text, 5), ' of ' || p.rows_total || ' rows',
                  COALESCE(p.rows_per_second::text, '-'), COALESCE(p.eta::text, '-'), p.state)
    FROM autoembed.progress p
) lines
ORDER BY part, n
\watch 2
