package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.Denied;
import io.athenaflight.client.FlightDataException.ServerError;
import io.athenaflight.client.FlightDataException.Unavailable;
import io.athenaflight.client.FlightDataException.Unsupported;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class ErrorsTest {
  /** The server's codes with the name of their exception: {@code busy=Unavailable,...}. */
  static List<String> codes() {
    return Arrays.asList(System.getProperty("athena.codes", "internal=ServerError").split(","));
  }

  @ParameterizedTest
  @MethodSource("codes")
  void everyCodeArrivesAsItsExceptionWithItsMessage(String pair) {
    String code = pair.split("=")[0];
    try (FlightDataClient client =
        FlightDataClient.builder(Servers.said("scripted")).retryFor(Duration.ZERO).connect()) {
      for (FlightDataException error :
          List.of(
              thrown(() -> client.plan("code:" + code, Map.of())),
              thrown(() -> client.describe("code:" + code)),
              thrown(
                  () -> {
                    try (BatchStream rows = client.stream("later:" + code, Map.of())) {
                      rows.forEachRemaining(batch -> {});
                    }
                  }))) {
        assertEquals(pair, error.code() + "=" + error.getClass().getSimpleName());
        assertEquals(Servers.said("message"), error.said());
        assertEquals("[" + code + "] " + error.said(), error.getMessage());
      }
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void theTreeHasEveryCodeOfTheServer() {
    Servers.said("codes");
    Set<String> known = new HashSet<>(codes().stream().map(pair -> pair.split("=")[0]).toList());
    known.addAll(Set.of("unreachable", "connection-lost", "incomplete", "out-of-memory", "unexpected"));
    assertEquals(known, FlightDataException.codes());
  }

  @Test
  void aCodeOfALaterServerKeepsItsStatus() {
    try (FlightDataClient client = Servers.scripted()) {
      Denied error = assertThrows(Denied.class, () -> client.plan("code:of-a-later-server", Map.of()));
      assertEquals("of-a-later-server", error.code());
      assertEquals(Servers.said("message"), error.said());
    }
  }

  @Test
  void aBusyServerIsAskedAgain() {
    try (FlightDataClient client = Servers.scripted();
        BatchStream rows = client.stream("busy", Map.of())) {
      assertTrue(rows.hasNext());
      assertEquals(
          "[\"info\", \"info\", \"info\", \"get\", \"get\", \"get\"]", Servers.told("calls", "busy"));
    }
  }

  @Test
  void aServerThatStaysBusyIsReported() {
    try (FlightDataClient client =
        FlightDataClient.builder(Servers.said("scripted")).retryFor(Duration.ofMillis(500)).connect()) {
      long started = System.nanoTime();
      Unavailable error = assertThrows(Unavailable.class, () -> client.plan("always-busy", Map.of()));
      assertEquals("[busy] all places are taken", error.getMessage());
      long calls = Servers.told("calls", "always-busy").split(",").length;
      assertTrue(calls > 1 && calls < 6, "calls " + calls);
      assertTrue(System.nanoTime() - started < Duration.ofSeconds(20).toNanos());
    }
  }

  @Test
  void nothingElseIsAskedAgain() {
    try (FlightDataClient client = Servers.scripted()) {
      Unavailable odd = assertThrows(Unavailable.class, () -> client.plan("no-code", Map.of()));
      assertEquals("unreachable", odd.code());
      assertEquals("[\"info\"]", Servers.told("calls", "no-code"));
      try (BatchStream rows = client.stream("refused", Map.of())) {
        assertEquals("engine-failed", assertThrows(ServerError.class, rows::hasNext).code());
      }
      assertEquals("[\"info\", \"get\"]", Servers.told("calls", "refused"));
    }
  }

  @Test
  void afterARowNothingIsAskedAgain() {
    try (FlightDataClient client = Servers.scripted();
        BatchStream rows = client.stream("later:draining", Map.of())) {
      rows.next();
      assertEquals("draining", assertThrows(Unavailable.class, rows::hasNext).code());
      assertEquals("[\"info\", \"get\"]", Servers.told("calls", "later:draining"));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"short", "long"})
  void anotherRowCountThanTheServersIsAnError(String name) {
    try (FlightDataClient client = Servers.scripted();
        BatchStream rows = client.stream(name, Map.of())) {
      ServerError error = assertThrows(ServerError.class, () -> rows.forEachRemaining(batch -> {}));
      assertEquals("incomplete", error.code());
      assertEquals(
          "the server sent " + (name.equals("short") ? 4 : 2) + " rows and 3 arrived", error.said());
      assertThrows(ServerError.class, rows::hasNext);
    }
  }

  @Test
  void endpointsAreReadInTheirOrder() {
    StringBuilder found = new StringBuilder();
    try (FlightDataClient client = Servers.scripted();
        BatchStream rows = client.stream("two", Map.of())) {
      rows.forEachRemaining(batch -> found.append(batch.getVector("n").getObject(0)));
    }
    assertEquals("0123", found.toString());
  }

  @Test
  void aStreamThatBreaksOffNeverLooksComplete() {
    try (FlightDataClient client = Servers.scripted();
        BatchStream rows = client.stream("breaks-off", Map.of())) {
      rows.next();
      assertEquals("connection-lost", assertThrows(Unavailable.class, rows::hasNext).code());
    }
  }

  @Test
  void aKilledServerNeverLooksLikeTheEnd() {
    ProcessHandle server = ProcessHandle.of(Long.parseLong(Servers.said("killed.pid"))).orElseThrow();
    try (FlightDataClient client = FlightDataClient.connect(Servers.said("killed"))) {
      try (BatchStream rows = client.stream("slow_rows", Map.of())) {
        rows.next();
        server.destroyForcibly();
        Unavailable error = assertThrows(Unavailable.class, () -> rows.forEachRemaining(batch -> {}));
        assertEquals("connection-lost", error.code());
      }
      assertEquals(0, client.allocatedBytes());
      Unavailable after = assertThrows(Unavailable.class, () -> client.plan("slow_rows", Map.of()));
      assertEquals("unreachable", after.code());
    }
  }

  @Test
  void aLocationElsewhereIsRefused() {
    try (FlightDataClient client = Servers.scripted()) {
      assertThrows(Unsupported.class, () -> client.stream("elsewhere", Map.of()));
    }
  }

  @Test
  void nobodyThereIsOneLine() {
    try (FlightDataClient client = FlightDataClient.connect("grpc://localhost:1")) {
      Unavailable error = assertThrows(Unavailable.class, client::datasets);
      assertEquals("unreachable", error.code());
      assertTrue(error.said().contains("; does it run there: "), error.said());
      assertTrue(error.said().contains("Connection refused"), error.said());
      assertFalse(error.getMessage().contains("\n"));
    }
  }

  private static FlightDataException thrown(Runnable call) {
    return assertThrows(FlightDataException.class, call::run);
  }
}
