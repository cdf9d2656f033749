-- A write holds a batch for each mailbox and keeps those that fit: what another relay was faster with is named, instead of
-- all being refused.

DROP FUNCTION write_batch;

-- Writes batches in one statement, thus in one transaction and one round trip. Each row says which batch it is of, counted
-- from 1. A batch is left out as a whole if a version is not the expected one; their numbers come back. Without sums
-- nothing was written. Rows of mailboxes are locked in one order, so two relays never wait for each other.
CREATE FUNCTION write_batches(
    -- one for each mailbox or token: expected NULL where none may be; content NULL where it goes
    h_batch integer[], h_kind smallint[], h_id bytea[], h_expected bigint[], h_version bigint[], h_content bytea[],
    h_change boolean[],
    i_batch integer[], i_mailbox bytea[], i_kind smallint[], i_key bytea[], i_content bytea[],
    i_gone_batch integer[], i_gone_mailbox bytea[], i_gone_kind smallint[], i_gone_key bytea[],
    e_batch integer[], e_mailbox bytea[], e_cursor bigint[], e_id bytea[], e_right bytea[], e_stored_at bigint[],
    e_body bytea[],
    e_gone_batch integer[], e_gone_mailbox bytea[], e_gone_cursor bigint[],
    m_batch integer[], m_kind smallint[], m_time bigint[], m_mailbox bytea[], m_key bytea[], m_content bytea[],
    m_gone_batch integer[], m_gone_kind smallint[], m_gone_time bigint[], m_gone_mailbox bytea[], m_gone_key bytea[],
    -- one for each batch
    d_mailboxes bigint[], d_envelopes bigint[], d_bytes bigint[], d_tombstones bigint[], d_rights bigint[],
    given bigint
) RETURNS TABLE (
    conflicts integer[], mailboxes bigint, envelopes bigint, bytes bigint, tombstones bigint, rights bigint
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    wrong integer[];
    present bigint[];
    fits boolean[] := array_fill(true, ARRAY[cardinality(d_mailboxes)]);
    n integer;
    awaited bigint;
    done bigint;
    free smallint;
BEGIN
    IF cardinality(h_id) > 0 THEN
        SELECT array_agg(l.batch) FILTER (WHERE l.version IS DISTINCT FROM l.expected),
            array_agg(l.number) FILTER (WHERE l.expected IS NOT NULL)
        INTO wrong, present
        FROM (
            SELECT h.version, e.expected, e.batch, e.number
            FROM unnest(h_batch, h_kind, h_id, h_expected) WITH ORDINALITY AS e (batch, kind, id, expected, number)
            JOIN heads h ON h.kind = e.kind AND h.id = e.id
            ORDER BY h.kind, h.id
            FOR NO KEY UPDATE OF h
        ) l;
        SELECT count(e.expected) INTO awaited FROM unnest(h_expected) AS e (expected);
        IF coalesce(cardinality(present), 0) <> awaited THEN
            -- mailboxes that have gone
            wrong := wrong || ARRAY(
                SELECT e.batch FROM unnest(h_batch, h_expected) WITH ORDINALITY AS e (batch, expected, number)
                WHERE e.expected IS NOT NULL AND e.number <> ALL (coalesce(present, '{}'))
            );
        END IF;
        IF cardinality(wrong) > 0 THEN
            FOREACH n IN ARRAY wrong LOOP
                fits[n] := false;
            END LOOP;
            IF true <> ALL (fits) THEN
                RETURN QUERY SELECT wrong, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint;
                RETURN;
            END IF;
        END IF;
        UPDATE heads h SET version = e.version, content = e.content
        FROM unnest(h_batch, h_kind, h_id, h_expected, h_version, h_content, h_change)
            AS e (batch, kind, id, expected, version, content, change)
        WHERE fits[e.batch] AND e.change AND e.expected IS NOT NULL AND e.content IS NOT NULL
            AND h.kind = e.kind AND h.id = e.id;
        DELETE FROM heads h
        USING unnest(h_batch, h_kind, h_id, h_content, h_change) AS e (batch, kind, id, content, change)
        WHERE fits[e.batch] AND e.change AND e.content IS NULL AND h.kind = e.kind AND h.id = e.id;
        SELECT count(*) INTO awaited
        FROM unnest(h_batch, h_expected, h_content, h_change) AS e (batch, expected, content, change)
        WHERE fits[e.batch] AND e.change AND e.expected IS NULL AND e.content IS NOT NULL;
        IF awaited > 0 THEN
            INSERT INTO heads (kind, id, version, content)
            SELECT e.kind, e.id, e.version, e.content
            FROM unnest(h_batch, h_kind, h_id, h_expected, h_version, h_content, h_change)
                AS e (batch, kind, id, expected, version, content, change)
            WHERE fits[e.batch] AND e.change AND e.expected IS NULL AND e.content IS NOT NULL
            ORDER BY e.kind, e.id
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS done = ROW_COUNT;
            IF done <> awaited THEN
                -- so rare that all is decided again
                RAISE EXCEPTION 'another relay made the same mailbox' USING ERRCODE = 'KC001';
            END IF;
        END IF;
    END IF;
    IF cardinality(i_gone_key) > 0 THEN
        DELETE FROM items i
        USING unnest(i_gone_batch, i_gone_mailbox, i_gone_kind, i_gone_key) AS e (batch, mailbox, kind, key)
        WHERE fits[e.batch] AND i.mailbox = e.mailbox AND i.kind = e.kind AND i.key = e.key;
    END IF;
    IF cardinality(i_key) > 0 THEN
        INSERT INTO items (mailbox, kind, key, content)
        SELECT e.mailbox, e.kind, e.key, e.content
        FROM unnest(i_batch, i_mailbox, i_kind, i_key, i_content) AS e (batch, mailbox, kind, key, content)
        WHERE fits[e.batch]
        ON CONFLICT (mailbox, kind, key) DO UPDATE SET content = EXCLUDED.content;
    END IF;
    IF cardinality(e_gone_cursor) > 0 THEN
        DELETE FROM envelopes v
        USING unnest(e_gone_batch, e_gone_mailbox, e_gone_cursor) AS e (batch, mailbox, cursor)
        WHERE fits[e.batch] AND v.mailbox = e.mailbox AND v.cursor = e.cursor;
    END IF;
    IF cardinality(e_cursor) > 0 THEN
        INSERT INTO envelopes (mailbox, cursor, id, right_id, stored_at, body)
        SELECT e.mailbox, e.cursor, e.id, e.right_id, e.stored_at, e.body
        FROM unnest(e_batch, e_mailbox, e_cursor, e_id, e_right, e_stored_at, e_body)
            AS e (batch, mailbox, cursor, id, right_id, stored_at, body)
        WHERE fits[e.batch]
        ON CONFLICT (mailbox, cursor) DO UPDATE SET id = EXCLUDED.id, right_id = EXCLUDED.right_id,
            stored_at = EXCLUDED.stored_at, body = EXCLUDED.body;
    END IF;
    IF cardinality(m_gone_key) > 0 THEN
        DELETE FROM marks m
        USING unnest(m_gone_batch, m_gone_kind, m_gone_time, m_gone_mailbox, m_gone_key)
            AS e (batch, kind, time, mailbox, key)
        WHERE fits[e.batch] AND m.kind = e.kind AND m.time = e.time AND m.mailbox = e.mailbox AND m.key = e.key;
    END IF;
    IF cardinality(m_key) > 0 THEN
        INSERT INTO marks (kind, time, mailbox, key, content)
        SELECT e.kind, e.time, e.mailbox, e.key, e.content
        FROM unnest(m_batch, m_kind, m_time, m_mailbox, m_key, m_content)
            AS e (batch, kind, time, mailbox, key, content)
        WHERE fits[e.batch]
        ON CONFLICT (kind, time, mailbox, key) DO UPDATE SET content = EXCLUDED.content;
    END IF;
    -- last, so that who holds it waits for nothing any more
    SELECT s.slot INTO free FROM sums s ORDER BY s.slot LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF free IS NULL THEN
        free := floor(random() * 64);
    END IF;
    UPDATE sums s SET
        mailboxes = s.mailboxes + d.mailboxes, envelopes = s.envelopes + d.envelopes, bytes = s.bytes + d.bytes,
        tombstones = s.tombstones + d.tombstones, rights = s.rights + d.rights,
        write = nextval('writes'), instant = given
    FROM (
        SELECT coalesce(sum(e.mailboxes), 0)::bigint AS mailboxes, coalesce(sum(e.envelopes), 0)::bigint AS envelopes,
            coalesce(sum(e.bytes), 0)::bigint AS bytes, coalesce(sum(e.tombstones), 0)::bigint AS tombstones,
            coalesce(sum(e.rights), 0)::bigint AS rights
        FROM unnest(d_mailboxes, d_envelopes, d_bytes, d_tombstones, d_rights) WITH ORDINALITY
            AS e (mailboxes, envelopes, bytes, tombstones, rights, batch)
        WHERE fits[e.batch::integer]
    ) d
    WHERE s.slot = free;
    RETURN QUERY SELECT wrong, sum(s.mailboxes)::bigint, sum(s.envelopes)::bigint, sum(s.bytes)::bigint,
        sum(s.tombstones)::bigint, sum(s.rights)::bigint FROM sums s;
END
$$;
