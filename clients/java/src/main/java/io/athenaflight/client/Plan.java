package io.athenaflight.client;

import java.util.List;
import java.util.Map;

/**
 * How a question would be answered now; nothing has run.
 *
 * @param params the resolved values, defaults included, as JSON
 * @param dropped optional parameters that were not given, and whose terms are not in the query
 * @param snapshots by table; null for one that has no snapshot yet
 * @param cache {@code hit}, {@code miss} or {@code off}
 */
public record Plan(
    String dataset,
    int version,
    Map<String, Object> params,
    String engine,
    List<String> dropped,
    Map<String, Long> snapshots,
    String fingerprint,
    String cache,
    Estimate estimate,
    Map<String, Object> limits) {

  /** What would be read, at most, and what that costs. */
  public record Estimate(long files, long bytes, double usd) {}
}
