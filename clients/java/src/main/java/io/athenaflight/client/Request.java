package io.athenaflight.client;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A question to a dataset.
 *
 * <p>Values are strings, booleans, numbers, {@code BigDecimal}, {@code LocalDate}, {@code LocalDateTime}, {@code
 * Instant}, {@code OffsetDateTime}, {@code ZonedDateTime}, and lists, arrays and maps of them. A parameter whose value is
 * null is absent where it is optional, and an error where it is not.
 *
 * @param version the contract's version; null for the newest
 * @param asOf a pin's name, a receipt, or an ISO timestamp: what the tables held then; null for now
 * @param engine where the caller may choose one; null for the server's choice
 */
public record Request(String dataset, Map<String, ?> params, Integer version, String asOf, String engine) {
  public Request {
    // Not Map.copyOf, which refuses nulls and forgets the order.
    params = Collections.unmodifiableMap(new LinkedHashMap<String, Object>(params));
  }

  public static Request of(String dataset, Map<String, ?> params) {
    return new Request(dataset, params, null, null, null);
  }

  public Request withVersion(int number) {
    return new Request(dataset, params, number, asOf, engine);
  }

  public Request withAsOf(String named) {
    return new Request(dataset, params, version, named, engine);
  }

  public Request withEngine(String name) {
    return new Request(dataset, params, version, asOf, name);
  }

  /** Form 2 of docs/protocol.md. */
  Map<String, Object> toJson() {
    Map<String, Object> found = new LinkedHashMap<>();
    Map<String, Object> values = new LinkedHashMap<>();
    params.forEach((name, value) -> values.put(name, Values.toJson(value, name)));
    found.put("dataset", dataset);
    found.put("params", values);
    if (version != null) {
      found.put("version", version);
    }
    if (asOf != null) {
      found.put("as_of", asOf);
    }
    if (engine != null) {
      found.put("engine", engine);
    }
    return found;
  }
}
