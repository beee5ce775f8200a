-- The catalog's schema version 4 as it was written, with a dataset of one sample and a request of then.

CREATE SCHEMA wide;
CREATE TABLE schema_migrations (
    version       INTEGER,
    name          VARCHAR,
    applied_at    TIMESTAMP,
    tool_version  VARCHAR
);
CREATE TABLE workspace (
    path VARCHAR
);
CREATE TABLE datasets (
    dataset_id   VARCHAR,
    name         VARCHAR,
    source       VARCHAR,
    kind         VARCHAR,
    fingerprint  VARCHAR,
    num_samples  BIGINT,
    id_rule      VARCHAR,
    classes      VARCHAR,
    options      VARCHAR,
    transform    VARCHAR,
    notes        VARCHAR,
    details      VARCHAR,
    created_at   TIMESTAMP,
    seq          BIGINT
);
CREATE TABLE samples (
    dataset_id    VARCHAR,
    sample_row    INTEGER,
    sample_id     VARCHAR,
    split         VARCHAR,
    label         VARCHAR,
    label_true    VARCHAR,
    content_hash  VARCHAR,
    group_key     VARCHAR,
    attributes    VARCHAR
);
CREATE TABLE runs (
    run_id          VARCHAR,
    dataset_id      VARCHAR,
    kind            VARCHAR,
    model           VARCHAR,
    seed            BIGINT,
    device          VARCHAR,
    threads         INTEGER,
    cpu_capability  VARCHAR,
    wheels          VARCHAR,
    config          VARCHAR,
    code_version    VARCHAR,
    status          VARCHAR,
    started_at      TIMESTAMP,
    finished_at     TIMESTAMP,
    details         VARCHAR,
    seq             BIGINT
);
CREATE TABLE score_runs (
    run_key     INTEGER,
    dataset_id  VARCHAR,
    run_id      VARCHAR
);
CREATE TABLE score_columns (
    run_key         INTEGER,
    column_name     VARCHAR,
    scorer          VARCHAR,
    scorer_version  INTEGER,
    params          VARCHAR,
    inputs          VARCHAR,
    direction       VARCHAR,
    has_spread      BOOLEAN,
    seq             BIGINT
);
CREATE TABLE flag_sets (
    flag_key    INTEGER,
    dataset_id  VARCHAR,
    run_id      VARCHAR,
    flag        VARCHAR,
    seq         BIGINT
);
CREATE TABLE flag_values (
    flag_key    INTEGER,
    sample_row  INTEGER,
    flagged     BOOLEAN,
    score       DOUBLE,
    threshold   DOUBLE,
    reason      VARCHAR,
    suggestion  VARCHAR,
    confidence  DOUBLE,
    suspicion   DOUBLE
);
CREATE VIEW flags AS
SELECT f.dataset_id, f.run_id, f.flag, s.sample_id, v.flagged, v.score, v.threshold, v.reason,
       v.suggestion, v.confidence, v.suspicion, f.seq
FROM flag_values v
JOIN flag_sets f USING (flag_key)
JOIN samples s ON s.dataset_id = f.dataset_id AND s.sample_row = v.sample_row;
CREATE TABLE subset_records (
    subset_key        INTEGER,
    subset_id         VARCHAR,
    dataset_id        VARCHAR,
    name              VARCHAR,
    version           INTEGER,
    selector          VARCHAR,
    selector_version  INTEGER,
    params            VARCHAR,
    seed              BIGINT,
    budget            DOUBLE,
    control_of        VARCHAR,
    scores            VARCHAR,
    num_members       BIGINT,
    fingerprint       VARCHAR,
    created_at        TIMESTAMP,
    seq               BIGINT
);
CREATE VIEW subsets AS
SELECT r.* EXCLUDE (subset_key),
       concat(w.path, '/manifests/', r.name,
              CASE WHEN r.version < max(r.version) OVER (PARTITION BY r.name)
                   THEN printf('/versions/%04d', r.version) ELSE '' END, '/manifest.json') AS manifest_path
FROM subset_records r CROSS JOIN workspace w;
CREATE TABLE member_rows (
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
CREATE TABLE evaluations (
    subset_id    VARCHAR,
    dataset_id   VARCHAR,
    subset       VARCHAR,
    model        VARCHAR,
    seed         BIGINT,
    metric       VARCHAR,
    value        DOUBLE,
    num_train    BIGINT,
    run_id       VARCHAR,
    details      VARCHAR
);
CREATE TABLE forget_requests (
    request_id     VARCHAR,
    dataset_id     VARCHAR,
    subset         VARCHAR,
    source         VARCHAR,
    num_requested  BIGINT,
    num_found      BIGINT,
    created_at     TIMESTAMP,
    details        VARCHAR
);
CREATE TABLE diagnostics (
    dataset_id  VARCHAR,
    run_id      VARCHAR,
    name        VARCHAR,
    value       VARCHAR,
    seq         BIGINT
);
CREATE TABLE reviews (
    sample_id    VARCHAR,
    label        VARCHAR,
    note         VARCHAR,
    reviewed_at  TIMESTAMP
);
CREATE TABLE artifacts (
    kind        VARCHAR,
    name        VARCHAR,
    dataset_id  VARCHAR,
    run_id      VARCHAR,
    path        VARCHAR,
    digest      VARCHAR,
    config      VARCHAR,
    details     VARCHAR,
    created_at  TIMESTAMP,
    seq         BIGINT
);
CREATE TABLE edge_sets (
    edge_key        INTEGER,
    dataset_id      VARCHAR,
    run_id          VARCHAR,
    method          VARCHAR,
    method_version  INTEGER,
    params          VARCHAR,
    seq             BIGINT
);
CREATE TABLE edge_rows (
    edge_key     INTEGER,
    sample_row   INTEGER,
    partner_row  INTEGER,
    value        FLOAT,
    spread       FLOAT,
    rank         SMALLINT
);
CREATE VIEW influence_edges AS
SELECT e.dataset_id, e.run_id, e.method, e.method_version, e.params, s.sample_id,
       CASE WHEN r.value > 0 THEN 'help' ELSE 'harm' END AS kind, r.rank, p.sample_id AS partner_id,
       p.split AS partner_split, r.value, r.spread, e.seq
FROM edge_rows r
JOIN edge_sets e USING (edge_key)
JOIN samples s ON s.dataset_id = e.dataset_id AND s.sample_row = r.sample_row
JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_row = r.partner_row;
INSERT INTO schema_migrations VALUES (1, 'create_tables', '2026-01-01', '0.1.0'), (2, 'add_reviews', '2026-01-01', '0.1.0'),
    (3, 'add_artifacts', '2026-01-01', '0.1.0'), (4, 'add_edges', '2026-01-01', '0.1.0');
INSERT INTO datasets (dataset_id, name, fingerprint, seq) VALUES ('old', 'pets', 'oldoldold', 1);
INSERT INTO samples (dataset_id, sample_row, sample_id, split, label) VALUES ('old', 0, 'a', 'train', 'cat');
INSERT INTO forget_requests (request_id, dataset_id, subset, source, num_requested, num_found, created_at)
    VALUES ('0123456789abcdef', 'old', 'forget-ready', 'ids.txt', 1, 1, '2026-01-01');
