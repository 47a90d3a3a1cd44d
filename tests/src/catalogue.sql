-- All that Postgres knows of the extension autoembed, as rows (object, properties), so that an updated one can be compared with a fresh one. Of each row of
-- a system table every field is taken, also those of later versions of Postgres, but for the ones named here: numbers that are
-- handed out (oids, file nodes), which are followed to names, and what is excused, each with its reason.
WITH extension AS (SELECT * FROM pg_extension WHERE extname = 'autoembed'),
member AS (
    SELECT d.classid, d.objid FROM pg_depend d, extension x
    WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid AND d.deptype = 'e'),
-- Tables, views and sequences, and the indexes of the tables.
relation AS (
    SELECT c.* FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    UNION ALL
    SELECT c.* FROM pg_index i JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid),
-- Everything that is the extension's, or goes with what is.
object AS (
    SELECT classid, objid, 0 AS objsubid FROM member
    UNION SELECT 'pg_class'::regclass, oid, 0 FROM relation
    UNION SELECT 'pg_class'::regclass, a.attrelid, a.attnum FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION SELECT 'pg_constraint'::regclass, c.oid, 0 FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
    UNION SELECT 'pg_trigger'::regclass, t.oid, 0 FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
    UNION SELECT 'pg_rewrite'::regclass, w.oid, 0 FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid
    UNION SELECT 'pg_attrdef'::regclass, d.oid, 0 FROM relation r JOIN pg_attrdef d ON d.adrelid = r.oid),
named AS (SELECT o.*, i.type, i.identity, i.type || ' ' || i.identity AS name FROM object o, pg_identify_object(o.classid, o.objid, o.objsubid) i),
-- One row a grant, in one order. A list that says what holds without one is none.
granted AS (
    SELECT l.classid, l.objid, l.objsubid, to_jsonb(array_agg(concat_ws(' ', coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC'), a.privilege_type,
               CASE WHEN a.is_grantable THEN 'WITH GRANT OPTION' END, 'by', a.grantor::regrole) ORDER BY a.grantee::regrole::text, a.privilege_type)) AS list
    FROM (SELECT 'pg_class'::regclass AS classid, r.oid AS objid, 0 AS objsubid,
                 coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, r.relowner)) AS acl FROM relation r WHERE r.relkind <> 'i'
          UNION ALL SELECT 'pg_class'::regclass, a.attrelid, a.attnum, a.attacl FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid
          UNION ALL SELECT 'pg_proc'::regclass, p.oid, 0, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc p
          UNION ALL SELECT 'pg_namespace'::regclass, n.oid, 0, coalesce(n.nspacl, acldefault('n', n.nspowner)) FROM pg_namespace n) l, aclexplode(l.acl) a
    GROUP BY l.classid, l.objid, l.objsubid),
property AS (
    SELECT 'extension autoembed' AS name,
           to_jsonb(x) - '{oid, extowner, extnamespace, extconfig, extcondition}'::text[]
             || jsonb_build_object('schema', extnamespace::regnamespace, 'owner', extowner::regrole, 'dumped',
                    (SELECT jsonb_object_agg(c.relation::regclass, coalesce(c.condition, '')) FROM unnest(x.extconfig, x.extcondition) c (relation, condition))) AS properties
    FROM extension x
    UNION ALL
    SELECT n.name, jsonb_build_object('owner', s.nspowner::regrole) FROM named n JOIN pg_namespace s ON n.classid = 'pg_namespace'::regclass AND n.objid = s.oid
    UNION ALL
    -- Sizes and ages; flags that stay when what they tell of has gone, and relnatts, which counts columns that were dropped: what they tell of is listed itself.
    SELECT n.name, to_jsonb(r) - '{oid, relfilenode, relnamespace, reltype, relowner, reltoastrelid, relpages, reltuples, relallvisible, relallfrozen, relfrozenxid, relminmxid,
                                   relhasindex, relhasrules, relhastriggers, relnatts, relacl, relam}'::text[]
             || jsonb_build_object('owner', r.relowner::regrole, 'access method', (SELECT amname FROM pg_am WHERE oid = r.relam), 'toast',
                    (SELECT jsonb_build_object('options', t.reloptions) FROM pg_class t WHERE t.oid = r.reltoastrelid))
    FROM named n JOIN relation r ON n.classid = 'pg_class'::regclass AND n.objid = r.oid AND n.objsubid = 0
    UNION ALL
    -- The number among those that are there: dropped columns leave gaps. Rows from before a column take its value from attmissingval.
    SELECT n.name, to_jsonb(a) - '{attrelid, attnum, atttypid, attcollation, attcacheoff, atthasmissing, attmissingval, attacl}'::text[]
             || jsonb_build_object('number', count(*) OVER (PARTITION BY a.attrelid ORDER BY a.attnum), 'type', format_type(a.atttypid, a.atttypmod),
                    'collation', a.attcollation::regcollation, 'default', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum))
    FROM named n JOIN pg_attribute a ON n.classid = 'pg_class'::regclass AND n.objid = a.attrelid AND n.objsubid = a.attnum
    UNION ALL
    SELECT n.name, to_jsonb(i) - '{indexrelid, indrelid, indclass, indcollation, indexprs, indpred, indkey, indcheckxmin}'::text[] || jsonb_build_object('definition', pg_get_indexdef(i.indexrelid))
    FROM named n JOIN pg_index i ON n.classid = 'pg_class'::regclass AND n.objid = i.indexrelid AND n.objsubid = 0
    UNION ALL
    SELECT n.name, to_jsonb(s) - '{seqrelid, seqtypid}'::text[] || jsonb_build_object('type', format_type(s.seqtypid, NULL))
    FROM named n JOIN pg_sequence s ON n.classid = 'pg_class'::regclass AND n.objid = s.seqrelid AND n.objsubid = 0
    UNION ALL
    SELECT n.name, to_jsonb(c) - '{oid, connamespace, conrelid, contypid, conindid, conparentid, confrelid, conkey, confkey, conpfeqop, conppeqop, conffeqop, confdelsetcols, conexclop, conbin}'::text[]
             || jsonb_build_object('definition', pg_get_constraintdef(c.oid))
    FROM named n JOIN pg_constraint c ON n.classid = 'pg_constraint'::regclass AND n.objid = c.oid
    UNION ALL
    SELECT n.name, jsonb_build_object('enabled', t.tgenabled, 'definition', pg_get_triggerdef(t.oid)) FROM named n JOIN pg_trigger t ON n.classid = 'pg_trigger'::regclass AND n.objid = t.oid
    UNION ALL
    SELECT n.name, jsonb_build_object('enabled', w.ev_enabled, 'definition', pg_get_ruledef(w.oid)) FROM named n JOIN pg_rewrite w ON n.classid = 'pg_rewrite'::regclass AND n.objid = w.oid
    UNION ALL
    SELECT n.name, to_jsonb(p) - '{oid, pronamespace, proowner, prolang, provariadic, prorettype, proargtypes, proallargtypes, proargdefaults, protrftypes, prosqlbody, proacl}'::text[]
             || jsonb_build_object('owner', p.proowner::regrole, 'language', (SELECT lanname FROM pg_language WHERE oid = p.prolang), 'arguments', pg_get_function_arguments(p.oid),
                    'result', pg_get_function_result(p.oid), 'body', pg_get_function_sqlbody(p.oid))
    FROM named n JOIN pg_proc p ON n.classid = 'pg_proc'::regclass AND n.objid = p.oid
    UNION ALL
    SELECT n.name, jsonb_build_object('grants', g.list) FROM named n JOIN granted g USING (classid, objid, objsubid)
    UNION ALL
    -- What pg_dump takes for the extension's own grants.
    SELECT n.name, jsonb_build_object('first grants', (SELECT jsonb_agg(a ORDER BY a) FROM (SELECT unnest(p.initprivs)::text AS a) e))
    FROM named n JOIN pg_init_privs p ON p.classoid = n.classid AND p.objoid = n.objid AND p.objsubid = n.objsubid
    UNION ALL
    SELECT n.name, jsonb_build_object('comment', d.description) FROM named n JOIN pg_description d ON d.classoid = n.classid AND d.objoid = n.objid AND d.objsubid = n.objsubid
    UNION ALL
    -- Membership, and what goes when something else goes. Types of rows and TOAST tables follow from their tables.
    SELECT n.name, jsonb_build_object('depends on', jsonb_agg(DISTINCT d.deptype::text || ' ' || r.type || ' ' || r.identity))
    FROM named n JOIN pg_depend d ON d.classid = n.classid AND d.objid = n.objid AND d.objsubid = n.objsubid,
         pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) r
    GROUP BY n.name
    UNION ALL
    -- What is in the tables from the beginning.
    SELECT 'model ' || m.name, to_jsonb(m) FROM autoembed.models m WHERE m.well_known
    UNION ALL
    -- Kinds of objects of which the above knows nothing: shown whole, so that neither they nor a change of them is overlooked.
    SELECT n.name, '{"of a kind that catalogue.sql does not know": true}'
    FROM named n WHERE n.classid <> ALL ('{pg_class, pg_namespace, pg_proc, pg_constraint, pg_trigger, pg_rewrite, pg_attrdef}'::regclass[])
      AND n.objsubid = 0 AND NOT EXISTS (SELECT FROM pg_type t WHERE n.classid = 'pg_type'::regclass AND t.oid = n.objid AND (t.typrelid <> 0 OR t.typelem <> 0))
    UNION ALL
    SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0), '{"of a kind that catalogue.sql does not know": true}'::jsonb
    FROM relation r JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = r.oid AND d.deptype IN ('a', 'i', 'n') AND d.classid IN ('pg_policy'::regclass, 'pg_statistic_ext'::regclass))
SELECT p.name, e.key, e.value #>> '{}' FROM property p, jsonb_each(p.properties) e ORDER BY p.name COLLATE "C", e.key COLLATE "C", 3
