-- /// dataset
-- title   = "Costs"
-- doc     = "What queries of this server have scanned and cost by day (UTC), caller and dataset, at the configured price."
-- owner   = "athena-flight"
-- tags    = ["system"]
-- version = 1
-- key     = ["day", "caller", "dataset"]
-- sorted  = ["day", "caller", "dataset"]
--
-- [params]
-- since   = { type = "date", optional = true, example = 2026-01-01, doc = "First day, inclusive" }
-- caller  = { type = "string", optional = true, example = "alice", doc = "Only this caller's" }
-- dataset = { type = "string", optional = true, example = "daily_prices", doc = "Only of this dataset" }
--
-- [columns]
-- day           = { type = "date", null = false, doc = "Day in UTC on which the queries ended" }
-- caller        = { type = "string", null = false, doc = "Who asked" }
-- dataset       = { type = "string", null = false, doc = "What was asked for; sql = a statement of the caller's own" }
-- queries       = { type = "int64", null = false, doc = "Queries, answers from the cache included" }
-- scanned_bytes = { type = "int64", null = false, unit = "bytes", doc = "What the engine says it scanned" }
-- usd           = { type = "float64", null = false, unit = "USD", doc = "What that cost" }
--
-- [access]
-- roles = ["operator"]
--
-- [cache]
-- mode = "off"
-- ///
SELECT c.day, c.caller, c.dataset, c.queries, c.scanned_bytes, c.usd
FROM "$sys".costs AS c
WHERE c.day >= :since
  AND c.caller = :caller
  AND c.dataset = :dataset
ORDER BY c.day, c.caller, c.dataset
