-- The catalog's tables as they stand now. Views that depend on which scorers and flags exist (scores,
-- sample_scores, sample_flags, trajectories) are made by views.py after every write.
--
-- seq orders what was written last ("newest"): wall clocks tie, sequence numbers do not.
-- Text columns said to be JSON hold canonical JSON. Times are UTC. Keys are kept by the writer, which replaces
-- all rows of a key in one transaction; an index on a million rows costs eleven seconds per score.

CREATE SCHEMA wide;                      -- one table per scored run, see score_runs

CREATE TABLE schema_migrations (         -- key: version
    version       INTEGER,
    name          VARCHAR,
    applied_at    TIMESTAMP,
    tool_version  VARCHAR
);

CREATE TABLE workspace (                 -- one row: where this catalog believes to stand
    path    VARCHAR,
    purges  INTEGER                      -- how many purges.json tells of; NULL: none since tracesift counts them
);

CREATE TABLE datasets (                  -- key: dataset_id; one row per state of a dataset
    dataset_id   VARCHAR,                -- first 16 hex digits of the fingerprint
    name         VARCHAR,
    source       VARCHAR,
    kind         VARCHAR,                -- image | text | tabular
    fingerprint  VARCHAR,
    num_samples  BIGINT,
    id_rule      VARCHAR,
    classes      VARCHAR,                -- JSON list
    options      VARCHAR,                -- JSON: how the source was read
    transform    VARCHAR,                -- JSON: planted noise
    notes        VARCHAR,                -- JSON list of sentences
    details      VARCHAR,                -- JSON: everything else that was recorded
    created_at   TIMESTAMP,
    seq          BIGINT
);

CREATE TABLE samples (                   -- key: dataset_id, sample_row
    dataset_id    VARCHAR,
    sample_row    INTEGER,               -- position among all samples of this state, sorted by sample_id
    sample_id     VARCHAR,
    split         VARCHAR,
    label         VARCHAR,
    label_true    VARCHAR,               -- only where noise was planted or a person verified the label
    content_hash  VARCHAR,
    group_key     VARCHAR,
    attributes    VARCHAR                -- JSON: the source's remaining columns
);

CREATE TABLE runs (                      -- key: run_id
    run_id          VARCHAR,
    dataset_id      VARCHAR,
    kind            VARCHAR,             -- record | embed | score | evaluate | import ...
    model           VARCHAR,
    seed            BIGINT,
    device          VARCHAR,
    threads         INTEGER,
    cpu_capability  VARCHAR,
    wheels          VARCHAR,             -- JSON: versions of the libraries that decide the numbers
    config          VARCHAR,             -- JSON
    code_version    VARCHAR,
    status          VARCHAR,             -- running | done | failed
    started_at      TIMESTAMP,
    finished_at     TIMESTAMP,
    details         VARCHAR,             -- JSON
    seq             BIGINT
);

-- Scores lie wide: table wide.run_<run_key> holds every sample of the state, sorted by sample_row, with
-- sample_row, sample_id, split, label, covered, then one DOUBLE per score column and, where seeds were
-- combined, its "<column>.spread". The contract's long form is the view `scores`.
CREATE TABLE score_runs (                -- key: run_key, and (dataset_id, run_id)
    run_key     INTEGER,
    dataset_id  VARCHAR,
    run_id      VARCHAR
);

CREATE TABLE score_columns (             -- key: run_key, column_name
    run_key         INTEGER,
    column_name     VARCHAR,             -- the scorer's name; scorer__<digest> for other than default params
    scorer          VARCHAR,
    scorer_version  INTEGER,
    params          VARCHAR,             -- JSON
    inputs          VARCHAR,             -- JSON list
    direction       VARCHAR,
    has_spread      BOOLEAN,
    seq             BIGINT,
    made_from       VARCHAR              -- JSON: each input that a step added to the recording, and a hash of how
);

CREATE TABLE flag_sets (                 -- key: flag_key, and (dataset_id, run_id, flag)
    flag_key    INTEGER,
    dataset_id  VARCHAR,
    run_id      VARCHAR,
    flag        VARCHAR,
    seq         BIGINT
);

CREATE TABLE flag_values (               -- key: flag_key, sample_row
    flag_key    INTEGER,
    sample_row  INTEGER,
    flagged     BOOLEAN,                 -- NULL = cannot tell
    score       DOUBLE,
    threshold   DOUBLE,
    reason      VARCHAR,
    suggestion  VARCHAR,                 -- the label that the rule prefers to the given one
    confidence  DOUBLE,                  -- estimated probability that the flag is right, as the rule defines it
    suspicion   DOUBLE                   -- an order of all samples, in [0, 1]; no probability
);

CREATE VIEW flags AS
SELECT f.dataset_id, f.run_id, f.flag, s.sample_id, v.flagged, v.score, v.threshold, v.reason,
       v.suggestion, v.confidence, v.suspicion, f.seq
FROM flag_values v
JOIN flag_sets f USING (flag_key)
JOIN samples s ON s.dataset_id = f.dataset_id AND s.sample_row = v.sample_row;

CREATE TABLE subset_records (            -- key: subset_key, and (name, version)
    subset_key        INTEGER,
    subset_id         VARCHAR,
    dataset_id        VARCHAR,
    name              VARCHAR,
    version           INTEGER,
    selector          VARCHAR,
    selector_version  INTEGER,
    params            VARCHAR,           -- JSON
    seed              BIGINT,
    budget            DOUBLE,            -- a share up to 1, or a count; NULL = the selector decides
    control_of        VARCHAR,
    scores            VARCHAR,           -- JSON list
    num_members       BIGINT,
    fingerprint       VARCHAR,
    created_at        TIMESTAMP,
    seq               BIGINT
);

CREATE VIEW subsets AS                   -- the newest version of a name stands at its top, earlier ones below
SELECT r.* EXCLUDE (subset_key),
       concat(w.path, '/manifests/', r.name,
              CASE WHEN r.version < max(r.version) OVER (PARTITION BY r.name)
                   THEN printf('/versions/%04d', r.version) ELSE '' END, '/manifest.json') AS manifest_path
FROM subset_records r CROSS JOIN workspace w;

CREATE TABLE member_rows (               -- key: subset_key, sample_row
    subset_key  INTEGER,
    sample_row  INTEGER,
    role        VARCHAR,
    weight      DOUBLE,
    new_label   VARCHAR,
    reason      VARCHAR
);

CREATE VIEW subset_members AS
SELECT r.subset_id, s.sample_id, m.role, m.weight, m.new_label, m.reason
FROM member_rows m
JOIN subset_records r USING (subset_key)
JOIN samples s ON s.dataset_id = r.dataset_id AND s.sample_row = m.sample_row;

CREATE TABLE evaluations (               -- key: subset_id, model, seed, metric
    subset_id    VARCHAR,                -- the dataset's own id where a model saw all of train
    dataset_id   VARCHAR,
    subset       VARCHAR,                -- the subset's name
    model        VARCHAR,
    seed         BIGINT,
    metric       VARCHAR,
    value        DOUBLE,
    num_train    BIGINT,
    run_id       VARCHAR,
    details      VARCHAR                 -- JSON
);

CREATE TABLE forget_requests (           -- key: request_id; holds no sample ids, those stand in the subset
    request_id     VARCHAR,
    dataset_id     VARCHAR,
    subset         VARCHAR,
    source         VARCHAR,
    num_requested  BIGINT,
    num_found      BIGINT,               -- samples in role forget, copies that were pulled in included
    created_at     TIMESTAMP,
    details        VARCHAR,              -- JSON
    request_key    VARCHAR,              -- keyed hash of what was asked: the same request again has the same
    kind           VARCHAR,              -- ids | where | class | group | owner | csv
    num_exact      BIGINT,               -- pulled in as exact copies
    num_near       BIGINT,               -- pulled in as near copies
    num_retained   BIGINT,               -- retained, neighbours included
    num_holdout    BIGINT,
    subset_id      VARCHAR,              -- the version of the subset that it made
    version        INTEGER,
    after_seq      BIGINT,               -- subset_records.seq when it was recorded: what is larger came after it
    tool_version   VARCHAR,
    status         VARCHAR,              -- begun | done | unlinked; NULL: of an earlier tracesift, which kept no hashes
    seq            BIGINT,
    word_keys      VARCHAR               -- JSON list: keyed hash of each owner, group, class and condition it names
);

CREATE TABLE forgotten (                 -- key: request_id, id_key; keyed hashes alone, see forgotten.py
    request_id   VARCHAR,
    subset       VARCHAR,
    id_key       VARCHAR,                -- of the sample_id
    content_key  VARCHAR,                -- of the content_hash, NULL where there is none
    key_name     VARCHAR,                -- which key
    how          VARCHAR,                -- requested | copy | untrained
    seq          BIGINT                  -- that of the request
);

CREATE TABLE diagnostics (               -- key: dataset_id, run_id, name
    dataset_id  VARCHAR,
    run_id      VARCHAR,
    name        VARCHAR,
    value       VARCHAR,                 -- JSON
    seq         BIGINT
);

CREATE TABLE reviews (                   -- key: sample_id; a person's word, kept across dataset states
    sample_id    VARCHAR,
    label        VARCHAR,                -- the verified label
    note         VARCHAR,
    reviewed_at  TIMESTAMP
);

CREATE TABLE artifacts (                 -- key: kind, name; what lies in the workspace beside recordings and manifests
    kind        VARCHAR,                 -- embedding ...
    name        VARCHAR,
    dataset_id  VARCHAR,
    run_id      VARCHAR,                 -- the recording that it was made from, where there is one
    path        VARCHAR,                 -- below the workspace
    digest      VARCHAR,                 -- of the content
    config      VARCHAR,                 -- JSON: what made it
    details     VARCHAR,                 -- JSON: shape, graph, recall ...
    created_at  TIMESTAMP,
    seq         BIGINT
);

CREATE TABLE edge_sets (                 -- key: edge_key, and (dataset_id, run_id, method, params)
    edge_key        INTEGER,
    dataset_id      VARCHAR,
    run_id          VARCHAR,
    method          VARCHAR,             -- last_layer, influence_subset ...
    method_version  INTEGER,
    params          VARCHAR,             -- JSON
    seq             BIGINT,
    made_from       VARCHAR              -- JSON, as in score_columns
);

CREATE TABLE edge_rows (                 -- key: edge_key, sample_row, the sign of value, rank
    edge_key     INTEGER,
    sample_row   INTEGER,                -- the training sample
    partner_row  INTEGER,                -- whom it helps or harms
    value        FLOAT,                  -- above 0 it helps
    spread       FLOAT,                  -- standard error, of a method that estimates
    rank         SMALLINT,               -- 1: the strongest of its kind, help or harm; null beyond the k of the sample
    partner_rank SMALLINT                -- the same among the training samples of the partner
);

CREATE VIEW all_influence_edges AS
SELECT e.dataset_id, e.run_id, e.method, e.method_version, e.params, s.sample_id,
       CASE WHEN r.value > 0 THEN 'help' ELSE 'harm' END AS kind, r.rank, p.sample_id AS partner_id,
       p.split AS partner_split, r.partner_rank, r.value, r.spread, e.seq
FROM edge_rows r
JOIN edge_sets e USING (edge_key)
JOIN samples s ON s.dataset_id = e.dataset_id AND s.sample_row = r.sample_row
JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_row = r.partner_row;

CREATE VIEW influence_edges AS           -- the newest set of each method: with several, a pair would count twice
SELECT * FROM all_influence_edges WHERE seq IN (SELECT max(seq) FROM edge_sets GROUP BY method);
