-- Fills analytics.daily_portfolio_value: every portfolio's value on every day from its first rebalance on.
WITH rebalance AS (
  -- The next date is taken over a portfolio's dates, not over each stock's: a stock that is dropped ends there.
  SELECT
    d.port_id,
    d.rebal_date,
    LEAD(d.rebal_date) OVER (PARTITION BY d.port_id ORDER BY d.rebal_date) AS next_date
  FROM (SELECT DISTINCT r.port_id, r.rebal_date FROM portfolio.tb_rebalance AS r) AS d
)
SELECT
  p.trade_date,
  r.port_id,
  SUM(CAST(w.weight AS DOUBLE) * CAST(p.adj_close AS DOUBLE)) AS portfolio_value
FROM rebalance AS r
JOIN portfolio.tb_rebalance AS w ON w.port_id = r.port_id AND w.rebal_date = r.rebal_date
JOIN market_data.us_stocks_price AS p
  ON p.meta_id = w.meta_id
  AND p.trade_date >= r.rebal_date
  AND p.trade_date < COALESCE(r.next_date, DATE '9999-12-31')
WHERE p.adj_close IS NOT NULL
GROUP BY p.trade_date, r.port_id
ORDER BY p.trade_date, r.port_id
