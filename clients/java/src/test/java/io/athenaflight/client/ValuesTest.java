package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.athenaflight.client.FlightDataException.InvalidRequest;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.time.ZonedDateTime;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ValuesTest {
  record Case(Object value, String json) {}

  static List<Case> cases() {
    return List.of(
        // Jackson escapes what is outside of the basic plane, and means the same.
        new Case("it's \"삼성\" \\ 𝔸", "\"it's \\\"삼성\\\" \\\\ \\uD835\\uDD38\""),
        new Case('x', "\"x\""),
        new Case(true, "true"),
        new Case(-7, "-7"),
        new Case((short) 3, "3"),
        new Case(9_007_199_254_740_993L, "9007199254740993"),
        new Case(new BigInteger("123456789012345678901"), "123456789012345678901"),
        new Case(0.1, "0.1"),
        new Case(0.1f, "0.1"),
        new Case(new BigDecimal("12345.67890"), "12345.67890"),
        new Case(new BigDecimal("1E+3"), "1000"),
        new Case(new BigDecimal("1E-10"), "0.0000000001"),
        new Case(LocalDate.of(2024, 2, 29), "\"2024-02-29\""),
        new Case(LocalDateTime.of(2024, 2, 29, 12, 30), "\"2024-02-29T12:30\""),
        new Case(LocalDateTime.of(2024, 2, 29, 12, 30, 0, 123_456_000), "\"2024-02-29T12:30:00.123456\""),
        new Case(Instant.parse("2024-02-29T12:30:00Z"), "\"2024-02-29T12:30:00Z\""),
        new Case(OffsetDateTime.parse("2024-02-29T12:30:00+09:00"), "\"2024-02-29T12:30+09:00\""),
        new Case(
            ZonedDateTime.of(2024, 2, 29, 12, 30, 0, 0, ZoneId.of("Asia/Seoul")), "\"2024-02-29T12:30+09:00\""),
        new Case(List.of(3, 1), "[3,1]"),
        new Case(new int[] {3, 1}, "[3,1]"),
        new Case(new LocalDate[] {LocalDate.EPOCH}, "[\"1970-01-01\"]"),
        new Case(new TreeMap<>(Map.of(1, 0.6, 5, -0.4)), "{\"1\":0.6,\"5\":-0.4}"),
        new Case(Map.of(LocalDate.EPOCH, new BigDecimal("0.10")), "{\"1970-01-01\":0.10}"),
        new Case(Map.of(true, List.of()), "{\"true\":[]}"));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void valuesAreWrittenAsTheProtocolHasThem(Case one) {
    assertEquals("{\"params\":" + "{\"x\":" + one.json + "}}", written(Map.of("x", one.value)));
  }

  @Test
  void nullIsWrittenAndAbsentIsNot() {
    Map<String, Object> params = new HashMap<>();
    params.put("end_date", null);
    assertEquals("{\"params\":{\"end_date\":null}}", written(params));
    assertEquals("{\"params\":{}}", written(Map.of()));
  }

  static List<Object> refused() {
    return List.of(
        Double.NaN,
        Float.POSITIVE_INFINITY,
        new Object(),
        LocalTime.NOON,
        List.of(new StringBuilder("fine"), LocalTime.NOON),
        LocalDateTime.of(2024, 2, 29, 12, 30, 0, 1));
  }

  @Test
  void anotherClassIsToldWhatToSend() {
    InvalidRequest error = assertThrows(InvalidRequest.class, () -> written(Map.of("start", new Date(0))));
    assertEquals(
        "start: a java.util.Date cannot be sent; send text, a number, a Boolean, a date or moment of java.time, a list or"
            + " a map of them",
        error.said());
  }

  @ParameterizedTest
  @MethodSource("refused")
  void whatCannotBeWrittenIsRefusedWithItsParameter(Object value) {
    InvalidRequest error = assertThrows(InvalidRequest.class, () -> written(Map.of("start", value)));
    assertEquals("bad-parameter", error.code());
    assertEquals("start: ", error.said().substring(0, 7));
  }

  @Test
  void theRestOfTheRequestIsWrittenWhereItIsSaid() {
    Request request = Request.of("d", Map.of()).withVersion(2).withAsOf("2999-01-01T00:00:00Z").withEngine("duckdb");
    assertEquals(
        "{\"dataset\":\"d\",\"params\":{},\"version\":2,\"as_of\":\"2999-01-01T00:00:00Z\",\"engine\":\"duckdb\"}",
        new String(Values.encode(request.toJson()), StandardCharsets.UTF_8));
  }

  private static String written(Map<String, Object> params) {
    Map<String, Object> json = Request.of("d", params).toJson();
    json.remove("dataset");
    return new String(Values.encode(json), StandardCharsets.UTF_8);
  }
}
