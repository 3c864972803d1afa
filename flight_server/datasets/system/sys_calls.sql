-- /// dataset
-- title   = "Calls"
-- doc     = "The last calls of this server that have ended, of every RPC, refused ones included."
-- owner   = "athena-flight"
-- tags    = ["system"]
-- version = 1
-- sorted  = ["ended"]
--
-- [params]
-- since   = { type = "timestamp(tz)", optional = true, example = 2026-01-01T00:00:00Z, doc = "Only what has ended at or after this moment" }
-- caller  = { type = "string", optional = true, example = "alice", doc = "Only this caller's" }
-- dataset = { type = "string", optional = true, example = "daily_prices", doc = "Only calls for this dataset" }
--
-- [columns]
-- ended          = { type = "timestamp(tz)", null = false, doc = "When the call ended" }
-- method         = { type = "string", null = false, doc = "The RPC" }
-- action         = { type = "string", doc = "Of a DoAction: which one" }
-- first_batch_ms = { type = "float64", unit = "ms", doc = "Time to the first rows" }
-- policies       = { type = "string", doc = "Row filters and masks that held" }
-- trace_id       = { type = "string", doc = "The trace, where the call was traced" }
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
SELECT c.ended, c.method, c.action, c.first_batch_ms, c.policies, c.trace_id, c.caller, c.dataset, c.version, c.engine, c.cache, c.fingerprint, c.query_id, c.rows, c.bytes, c.scanned_bytes, c.usd, c.ms, c.code, c.datasets, c.reads
FROM "$sys".calls AS c
WHERE c.ended >= :since
  AND c.caller = :caller
  AND c.dataset = :dataset
ORDER BY c.ended
