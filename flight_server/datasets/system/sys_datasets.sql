-- /// dataset
-- title   = "Datasets"
-- doc     = "The datasets in service, and what has been asked of each since this server started."
-- owner   = "athena-flight"
-- tags    = ["system"]
-- version = 1
-- key     = ["name", "version"]
-- sorted  = ["name", "version"]
--
-- [params]
-- owner = { type = "string", optional = true, example = "market-data", doc = "Only this owner's" }
--
-- [columns]
-- name       = { type = "string", null = false, doc = "Name" }
-- version    = { type = "int64", null = false, doc = "Version" }
-- title      = { type = "string", doc = "Title" }
-- owner      = { type = "string", doc = "Who answers for it" }
-- roles      = { type = "string", doc = "Roles that may use it; empty = everybody" }
-- engine     = { type = "string", doc = "The engine that the file asks for" }
-- deprecated = { type = "string", doc = "Why it should no longer be used" }
-- calls      = { type = "int64", null = false, doc = "Calls about it that have ended" }
-- errors     = { type = "int64", null = false, doc = "Those of them that ended with an error" }
-- rows       = { type = "int64", null = false, doc = "Rows sent" }
-- bytes      = { type = "int64", null = false, unit = "bytes", doc = "Arrow bytes sent" }
-- last_call  = { type = "timestamp(tz)", doc = "When the last call ended" }
--
-- [access]
-- roles = ["operator"]
--
-- [cache]
-- mode = "off"
-- ///
SELECT d.name, d.version, d.title, d.owner, d.roles, d.engine, d.deprecated, d.calls, d.errors, d.rows, d.bytes, d.last_call
FROM "$sys".datasets AS d
WHERE d.owner = :owner
ORDER BY d.name, d.version
