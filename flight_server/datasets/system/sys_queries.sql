-- /// dataset
-- title   = "Queries"
-- doc     = "Queries that run on this server, the submitted ones that it keeps, and the last that streams have waited for."
-- owner   = "athena-flight"
-- tags    = ["system"]
-- version = 1
-- sorted  = ["started"]
--
-- [params]
-- since   = { type = "timestamp(tz)", optional = true, example = 2026-01-01T00:00:00Z, doc = "Only what has started at or after this moment" }
-- caller  = { type = "string", optional = true, example = "alice", doc = "Only this caller's" }
-- dataset = { type = "string", optional = true, example = "daily_prices", doc = "Only queries of this dataset" }
--
-- [columns]
-- started        = { type = "timestamp(tz)", null = false, doc = "When the query was asked for" }
-- ended          = { type = "timestamp(tz)", doc = "When it ended; absent = it has not" }
-- kind           = { type = "string", null = false, doc = "stream, or submitted" }
-- state          = { type = "string", null = false, doc = "QUEUED, RUNNING, SUCCEEDED, FAILED or CANCELLED" }
-- caller         = { type = "string", doc = "Who asked" }
-- dataset        = { type = "string", doc = "What was asked for; sql = a statement of the caller's own" }
-- version        = { type = "int64", doc = "Version of the dataset; 0 = not known, or a statement" }
-- engine         = { type = "string", doc = "Who answered" }
-- cache          = { type = "string", doc = "hit, miss or off" }
-- fingerprint    = { type = "string", doc = "Names the stored result" }
-- query_id       = { type = "string", doc = "The engine's name of the query" }
-- rows           = { type = "int64", doc = "Rows sent" }
-- bytes          = { type = "int64", unit = "bytes", doc = "Arrow bytes sent" }
-- scanned_bytes  = { type = "int64", unit = "bytes", doc = "What the engine says it scanned" }
-- usd            = { type = "float64", unit = "USD", doc = "What that cost at the configured price" }
-- ms             = { type = "float64", unit = "ms", doc = "How long it took, or has taken so far" }
-- code           = { type = "string", doc = "ok, or the code of the error (docs/protocol.md)" }
-- datasets       = { type = "string", doc = "Datasets that a statement called" }
-- reads          = { type = "string", doc = "Tables that were read, or were to be" }
--
-- [access]
-- roles = ["operator"]
--
-- [cache]
-- mode = "off"
-- ///
SELECT q.started, q.ended, q.kind, q.state, q.caller, q.dataset, q.version, q.engine, q.cache, q.fingerprint, q.query_id, q.rows, q.bytes, q.scanned_bytes, q.usd, q.ms, q.code, q.datasets, q.reads
FROM "$sys".queries AS q
WHERE q.started >= :since
  AND q.caller = :caller
  AND q.dataset = :dataset
ORDER BY q.started
