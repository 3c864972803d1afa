package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.InvalidRequest;
import io.athenaflight.client.FlightDataException.NotFound;
import io.athenaflight.client.FlightDataException.TimedOut;
import java.time.Duration;
import java.time.LocalDate;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class ClientTest {
  private static final Map<String, Object> APPLE = Map.of("ticker", "AAPL", "start_date", LocalDate.of(2010, 1, 4));
  private static final Duration LONG = Duration.ofSeconds(30);

  @Test
  void datasetsAreListedInOrder() {
    try (FlightDataClient client = Servers.client()) {
      List<String> found = client.datasets();
      assertTrue(found.containsAll(List.of("daily_prices", "every_column", "returns")));
      assertEquals(found.stream().sorted().toList(), found);
    }
  }

  @Test
  void aContractHasParametersColumnsAndLimits() {
    try (FlightDataClient client = Servers.client()) {
      Contract found = client.describe("daily_prices");
      assertEquals("Daily prices", found.title());
      assertEquals(1, found.version());
      assertEquals(List.of("trade_date"), found.sorted());
      assertEquals(Map.of("range", "start_date <= end_date"), found.rules());
      assertEquals(List.of("ticker", "start_date", "end_date"), found.params().stream().map(p -> p.name()).toList());
      Contract.Parameter start = found.params().get(1);
      assertEquals("date", start.type());
      assertTrue(start.required());
      assertEquals("1990-01-01", start.min());
      assertFalse(found.params().get(2).required());
      Contract.Column close = found.columns().get(1);
      assertEquals(new Contract.Column("close", "float32", true, "USD", "Close as quoted that day"), close);
      assertFalse(found.columns().get(0).nullable());
      assertTrue(found.limits().containsKey("max_rows"));
      assertNull(found.deprecated());
    }
  }

  @Test
  void aPlanSaysWhatWouldBeReadAndRunsNothing() {
    try (FlightDataClient client = Servers.client()) {
      Plan found = client.plan("daily_prices", APPLE);
      assertEquals("daily_prices", found.dataset());
      assertEquals(Map.of("ticker", "AAPL", "start_date", "2010-01-04"), found.params());
      assertEquals(List.of("end_date"), found.dropped());
      assertEquals("duckdb", found.engine());
      assertTrue(found.estimate().files() > 0);
      assertTrue(found.estimate().usd() > 0);
      assertTrue(found.snapshots().get("market_data.us_stocks_price") != null);
      Map<String, Object> withNull = new HashMap<>(APPLE);
      withNull.put("end_date", null);
      assertEquals(found.fingerprint(), client.plan("daily_prices", withNull).fingerprint());
      assertEquals(found.fingerprint(), client.plan(Request.of("daily_prices", APPLE).withVersion(1)).fingerprint());
    }
  }

  @Test
  void mistakesAreNamedBeforeAnythingRuns() {
    try (FlightDataClient client = Servers.client()) {
      InvalidRequest error =
          assertThrows(InvalidRequest.class, () -> client.stream("daily_prices", Map.of("tiker", "AAPL")));
      assertEquals("unknown-parameter", error.code());
      assertEquals(
          "daily_prices has no parameter 'tiker'; did you mean 'ticker'? It takes ticker, start_date, end_date",
          error.said());
      assertEquals("[unknown-parameter] " + error.said(), error.getMessage());
      assertEquals(
          "unknown-dataset", assertThrows(NotFound.class, () -> client.describe("daily_price")).code());
      assertEquals(
          "unknown-version",
          assertThrows(NotFound.class, () -> client.plan(Request.of("daily_prices", APPLE).withVersion(7))).code());
    }
  }

  @Test
  void aSubmittedQueryIsWaitedForAndRead() {
    try (FlightDataClient client = Servers.client()) {
      Submission submitted = client.submit("daily_prices", APPLE);
      try (BatchStream rows = client.submission(submitted.id()).result(LONG)) {
        int count = 0;
        for (VectorSchemaRoot batch : rows) {
          count += batch.getRowCount();
        }
        assertEquals(795, count);
      }
      Submission.Status status = submitted.status();
      assertEquals(Submission.State.SUCCEEDED, status.state());
      assertEquals(795, status.rows());
      assertTrue(status.done());
    }
  }

  @Test
  void aSubmittedQueryIsCancelled() {
    try (FlightDataClient client = Servers.client()) {
      Submission submitted = client.submit("slow_count", Map.of());
      TimedOut late = assertThrows(TimedOut.class, () -> submitted.result(Duration.ofMillis(100)));
      assertEquals("timeout", late.code());
      assertEquals(Submission.State.CANCELLED, submitted.cancel().state());
      assertEquals("cancelled", assertThrows(Cancelled.class, () -> submitted.result(LONG)).code());
    }
  }

  @Test
  void aSubmittedQueryThatFailsSaysWhy() {
    try (FlightDataClient client = Servers.client()) {
      Submission submitted = client.submit("too_many_rows", Map.of());
      assertEquals("row-limit", assertThrows(InvalidRequest.class, () -> submitted.result(LONG)).code());
      assertEquals(Submission.State.FAILED, submitted.status().state());
      Submission unknown = client.submission("none");
      assertEquals("unknown-query", assertThrows(NotFound.class, unknown::status).code());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"localhost:8815", "http://localhost:8815", "grpc://localhost", "grpc://:8815"})
  void whatIsNoAddressIsRefused(String url) {
    assertThrows(IllegalArgumentException.class, () -> FlightDataClient.connect(url));
  }
}
