package io.athenaflight.client;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamWriteFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import io.athenaflight.client.FlightDataException.InvalidRequest;
import io.athenaflight.client.FlightDataException.ServerError;
import java.io.IOException;
import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZonedDateTime;
import java.time.temporal.ChronoField;
import java.time.temporal.TemporalAccessor;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Java's values as the JSON form of the protocol writes them: dates ISO 8601, decimals with all their digits. */
final class Values {
  private static final ObjectMapper MAPPER =
      JsonMapper.builder()
          .addModule(new JavaTimeModule())
          // The server reads numbers digit by digit, for decimals and for floats; of text it takes decimals only.
          .enable(StreamWriteFeature.WRITE_BIGDECIMAL_AS_PLAIN)
          .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .build();

  private Values() {}

  /** Throws InvalidRequest (bad-parameter) for what no JSON says; the server checks everything else. */
  static Object toJson(Object value, String name) {
    if (value == null || value instanceof Boolean) {
      return value;
    }
    if (value instanceof Number number) {
      return number(number, name);
    }
    if (value instanceof CharSequence || value instanceof Character || value instanceof LocalDate) {
      return value.toString();
    }
    if (value instanceof TemporalAccessor moment) {
      return moment(moment, name);
    }
    if (value instanceof Map<?, ?> map) {
      Map<String, Object> found = new LinkedHashMap<>();
      map.forEach((key, item) -> found.put(String.valueOf(toJson(key, name)), toJson(item, name)));
      return found;
    }
    if (value instanceof Iterable<?> items) {
      List<Object> found = new ArrayList<>();
      items.forEach(item -> found.add(toJson(item, name)));
      return found;
    }
    if (value.getClass().isArray()) {
      List<Object> found = new ArrayList<>();
      for (int i = 0; i < Array.getLength(value); i++) {
        found.add(toJson(Array.get(value, i), name));
      }
      return found;
    }
    throw cannotBeSent(value, name);
  }

  static byte[] encode(Map<String, ?> body) {
    try {
      return MAPPER.writeValueAsBytes(body);
    } catch (JsonProcessingException error) {
      throw new IllegalStateException(error);
    }
  }

  static <T> T decode(byte[] body, Class<T> type) {
    try {
      return MAPPER.readValue(body, type);
    } catch (IOException error) {
      FlightDataException found = new ServerError("unexpected", "the answer is not the JSON that was expected");
      found.initCause(error);
      throw found;
    }
  }

  private static Object number(Number value, String name) {
    if (value instanceof Double || value instanceof Float) {
      if (!Double.isFinite(value.doubleValue())) {
        throw new InvalidRequest("bad-parameter", name + ": " + value + " is no value to ask for");
      }
      return value;
    }
    if (value instanceof Long
        || value instanceof Integer
        || value instanceof Short
        || value instanceof Byte
        || value instanceof BigInteger
        || value instanceof BigDecimal) {
      return value;
    }
    throw cannotBeSent(value, name);
  }

  private static String moment(TemporalAccessor value, String name) {
    Object taken = value instanceof ZonedDateTime zoned ? zoned.toOffsetDateTime() : value;
    if (!(taken instanceof LocalDateTime || taken instanceof Instant || taken instanceof OffsetDateTime)) {
      throw cannotBeSent(value, name);
    }
    if (value.get(ChronoField.NANO_OF_SECOND) % 1_000 != 0) {
      throw new InvalidRequest(
          "bad-parameter", name + ": " + value + " has nanoseconds; microseconds are the finest that there is");
    }
    return taken.toString();
  }

  private static InvalidRequest cannotBeSent(Object value, String name) {
    return new InvalidRequest(
        "bad-parameter",
        name
            + ": a "
            + value.getClass().getName()
            + " cannot be sent; send text, a number, a Boolean, a date or moment of java.time, a list or a map of them");
  }
}
