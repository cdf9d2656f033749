-- The rows of a relay. Numbers of kinds are in rows.rs.

-- Which relay this database belongs to: all its processes have one key.
CREATE TABLE relay (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    key bytea NOT NULL CHECK (length(key) = 32)
);

-- Mailboxes and tokens: each change of anything in a mailbox raises its version. Half of each page is left free, so that
-- a new version lies beside the old one and no index is touched.
CREATE TABLE heads (
    kind smallint NOT NULL,
    id bytea NOT NULL,
    version bigint NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- What belongs to a mailbox: rights, what is known of envelopes, one-time keys, the bundle.
CREATE TABLE items (
    mailbox bytea NOT NULL,
    kind smallint NOT NULL,
    key bytea NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (mailbox, kind, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE envelopes (
    mailbox bytea NOT NULL,
    cursor bigint NOT NULL,
    id bytea NOT NULL,
    right_id bytea NOT NULL,
    stored_at bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (mailbox, cursor)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
-- ciphertext: no time is spent on compressing it
ALTER TABLE envelopes ALTER COLUMN body SET STORAGE EXTERNAL;

-- What ends, when owners came last, work that goes on: read in the order of time.
CREATE TABLE marks (
    kind smallint NOT NULL,
    time bigint NOT NULL,
    mailbox bytea NOT NULL,
    key bytea NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (kind, time, mailbox, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The sums, spread over rows: each write adds to one that no other write holds, and the sum of all is exact.
CREATE SEQUENCE writes;
CREATE TABLE sums (
    slot smallint PRIMARY KEY,
    mailboxes bigint NOT NULL DEFAULT 0,
    envelopes bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    tombstones bigint NOT NULL DEFAULT 0,
    rights bigint NOT NULL DEFAULT 0,
    -- the number of the write that changed this row last, and the instant given with it
    write bigint NOT NULL DEFAULT 0,
    instant bigint
) WITH (fillfactor = 10);
INSERT INTO sums (slot) SELECT generate_series(0, 63);

-- Writes a batch in one statement, thus in one transaction and one round trip. No row is returned, and nothing is written,
-- if a version is not the expected one. Rows of mailboxes are locked in one order, so two relays never wait for each other.
CREATE FUNCTION write_batch(
    -- one for each mailbox or token: expected NULL where none may be; content NULL where it goes
    h_kind smallint[], h_id bytea[], h_expected bigint[], h_version bigint[], h_content bytea[], h_change boolean[],
    i_mailbox bytea[], i_kind smallint[], i_key bytea[], i_content bytea[],
    i_gone_mailbox bytea[], i_gone_kind smallint[], i_gone_key bytea[],
    e_mailbox bytea[], e_cursor bigint[], e_id bytea[], e_right bytea[], e_stored_at bigint[], e_body bytea[],
    e_gone_mailbox bytea[], e_gone_cursor bigint[],
    m_kind smallint[], m_time bigint[], m_mailbox bytea[], m_key bytea[], m_content bytea[],
    m_gone_kind smallint[], m_gone_time bigint[], m_gone_mailbox bytea[], m_gone_key bytea[],
    d_mailboxes bigint, d_envelopes bigint, d_bytes bigint, d_tombstones bigint, d_rights bigint, given bigint
) RETURNS TABLE (mailboxes bigint, envelopes bigint, bytes bigint, tombstones bigint, rights bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    present bigint;
    wrong bigint;
    awaited bigint;
    done bigint;
    free smallint;
BEGIN
    IF cardinality(h_id) > 0 THEN
        SELECT count(*), count(*) FILTER (WHERE l.version IS DISTINCT FROM l.expected) INTO present, wrong
        FROM (
            SELECT h.version, e.expected
            FROM unnest(h_kind, h_id, h_expected) AS e (kind, id, expected)
            JOIN heads h ON h.kind = e.kind AND h.id = e.id
            ORDER BY h.kind, h.id
            FOR NO KEY UPDATE OF h
        ) l;
        SELECT count(e.expected) INTO awaited FROM unnest(h_expected) AS e (expected);
        IF wrong > 0 OR present <> awaited THEN
            RETURN;
        END IF;
        UPDATE heads h SET version = e.version, content = e.content
        FROM unnest(h_kind, h_id, h_expected, h_version, h_content, h_change)
            AS e (kind, id, expected, version, content, change)
        WHERE e.change AND e.expected IS NOT NULL AND e.content IS NOT NULL AND h.kind = e.kind AND h.id = e.id;
        DELETE FROM heads h USING unnest(h_kind, h_id, h_content, h_change) AS e (kind, id, content, change)
        WHERE e.change AND e.content IS NULL AND h.kind = e.kind AND h.id = e.id;
        SELECT count(*) INTO awaited FROM unnest(h_expected, h_content, h_change) AS e (expected, content, change)
        WHERE e.change AND e.expected IS NULL AND e.content IS NOT NULL;
        IF awaited > 0 THEN
            INSERT INTO heads (kind, id, version, content)
            SELECT e.kind, e.id, e.version, e.content
            FROM unnest(h_kind, h_id, h_expected, h_version, h_content, h_change)
                AS e (kind, id, expected, version, content, change)
            WHERE e.change AND e.expected IS NULL AND e.content IS NOT NULL
            ORDER BY e.kind, e.id
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS done = ROW_COUNT;
            IF done <> awaited THEN
                RAISE EXCEPTION 'another relay made the same mailbox' USING ERRCODE = 'KC001';
            END IF;
        END IF;
    END IF;
    IF cardinality(i_gone_key) > 0 THEN
        DELETE FROM items i USING unnest(i_gone_mailbox, i_gone_kind, i_gone_key) AS e (mailbox, kind, key)
        WHERE i.mailbox = e.mailbox AND i.kind = e.kind AND i.key = e.key;
    END IF;
    IF cardinality(i_key) > 0 THEN
        INSERT INTO items (mailbox, kind, key, content)
        SELECT * FROM unnest(i_mailbox, i_kind, i_key, i_content)
        ON CONFLICT (mailbox, kind, key) DO UPDATE SET content = EXCLUDED.content;
    END IF;
    IF cardinality(e_gone_cursor) > 0 THEN
        DELETE FROM envelopes v USING unnest(e_gone_mailbox, e_gone_cursor) AS e (mailbox, cursor)
        WHERE v.mailbox = e.mailbox AND v.cursor = e.cursor;
    END IF;
    IF cardinality(e_cursor) > 0 THEN
        INSERT INTO envelopes (mailbox, cursor, id, right_id, stored_at, body)
        SELECT * FROM unnest(e_mailbox, e_cursor, e_id, e_right, e_stored_at, e_body)
        ON CONFLICT (mailbox, cursor) DO UPDATE SET id = EXCLUDED.id, right_id = EXCLUDED.right_id,
            stored_at = EXCLUDED.stored_at, body = EXCLUDED.body;
    END IF;
    IF cardinality(m_gone_key) > 0 THEN
        DELETE FROM marks m USING unnest(m_gone_kind, m_gone_time, m_gone_mailbox, m_gone_key)
            AS e (kind, time, mailbox, key)
        WHERE m.kind = e.kind AND m.time = e.time AND m.mailbox = e.mailbox AND m.key = e.key;
    END IF;
    IF cardinality(m_key) > 0 THEN
        INSERT INTO marks (kind, time, mailbox, key, content)
        SELECT * FROM unnest(m_kind, m_time, m_mailbox, m_key, m_content)
        ON CONFLICT (kind, time, mailbox, key) DO UPDATE SET content = EXCLUDED.content;
    END IF;
    -- last, so that who holds it waits for nothing any more
    SELECT s.slot INTO free FROM sums s ORDER BY s.slot LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF free IS NULL THEN
        free := floor(random() * 64);
    END IF;
    UPDATE sums s SET
        mailboxes = s.mailboxes + d_mailboxes, envelopes = s.envelopes + d_envelopes, bytes = s.bytes + d_bytes,
        tombstones = s.tombstones + d_tombstones, rights = s.rights + d_rights,
        write = nextval('writes'), instant = given
    WHERE s.slot = free;
    RETURN QUERY SELECT sum(s.mailboxes)::bigint, sum(s.envelopes)::bigint, sum(s.bytes)::bigint,
        sum(s.tombstones)::bigint, sum(s.rights)::bigint FROM sums s;
END
$$;
