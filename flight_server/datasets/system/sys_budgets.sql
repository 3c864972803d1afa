-- /// dataset
-- title   = "Budgets"
-- doc     = "What is left to callers who were charged or refused today (UTC) or have run statements lately."
-- owner   = "athena-flight"
-- tags    = ["system"]
-- version = 1
-- key     = ["caller"]
-- sorted  = ["caller"]
--
-- [params]
-- caller = { type = "string", optional = true, example = "alice", doc = "Only this caller's" }
--
-- [columns]
-- caller          = { type = "string", null = false, doc = "Who asks" }
-- day             = { type = "date", doc = "Day in UTC of the budget; absent = nothing was charged today, or there is no limit" }
-- usd_per_day     = { type = "float64", unit = "USD", doc = "What the caller may spend in the day" }
-- spent_usd       = { type = "float64", unit = "USD", doc = "What is charged, estimates of running queries included" }
-- left_usd        = { type = "float64", unit = "USD", doc = "What is left of it" }
-- statements_left = { type = "int64", doc = "SQL statements that the caller may run at once now; absent = none was run lately" }
--
-- [access]
-- roles = ["operator"]
--
-- [cache]
-- mode = "off"
-- ///
SELECT b.caller, b.day, b.usd_per_day, b.spent_usd, b.left_usd, b.statements_left
FROM "$sys".budgets AS b
WHERE b.caller = :caller
ORDER BY b.caller
