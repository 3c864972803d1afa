-- /// dataset
-- title   = "Every type"
-- doc     = "One row of its own parameters, and a list and a map."
-- owner   = "tests"
-- version = 1
--
-- [params]
-- flag    = { type = "bool", example = true }
-- small   = { type = "int32", example = -7 }
-- large   = { type = "int64", example = 9007199254740993 }
-- ratio   = { type = "float64", example = 0.1 }
-- amount  = { type = "decimal(18,4)", example = "12345.6789" }
-- word    = { type = "string", example = "it's" }
-- side    = { type = "enum", choices = ["buy", "sell"], example = "buy" }
-- day     = { type = "date", example = 2024-02-29 }
-- moment  = { type = "timestamp", example = 2024-02-29T12:30:00.123456 }
-- instant = { type = "timestamp(tz)", example = 2024-02-29T12:30:00Z }
-- numbers = { type = "list<int32>", example = [1, 2, 3] }
-- weights = { type = "map<int32, float64>", example = { 1 = 0.6, 2 = 0.4 } }
-- class   = { type = "string", default = "none", doc = "A name that Python keeps for itself" }
--
-- [columns]
-- flag    = { type = "bool" }
-- small   = { type = "int32" }
-- large   = { type = "int64" }
-- ratio   = { type = "float64" }
-- amount  = { type = "decimal(18,4)" }
-- word    = { type = "string" }
-- side    = { type = "string" }
-- day     = { type = "date" }
-- moment  = { type = "timestamp" }
-- instant = { type = "timestamp(tz)" }
-- hits    = { type = "int64" }
-- weight  = { type = "float64" }
-- class   = { type = "string" }
-- ///
SELECT
  :flag AS flag, :small AS small, :large AS large, :ratio AS ratio, :amount AS amount, :word AS word, :side AS side,
  :day AS day, :moment AS moment, :instant AS instant,
  (SELECT count(*) FROM reference.tb_meta AS m WHERE m.meta_id IN (:numbers)) AS hits,
  element_at(:weights, 2) AS weight,
  :class AS class
