package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.athenaflight.client.FlightDataException.Cancelled;
import io.athenaflight.client.FlightDataException.NotFound;
import io.athenaflight.client.FlightDataException.TimedOut;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What happens on the way: connections that break, fall silent, or lead to a server that is about to end. */
@Timeout(60)
class ConnectionTest {
  // For calls that are to be late, and for those that are not: the machine may be busy.
  private static final Duration PATIENT = Duration.ofSeconds(3);

  @Test
  void aConnectionThatFellSilentIsLeftAfterOneTimeout() throws IOException {
    try (Forwarder between = Forwarder.to(Servers.said("url"));
        FlightDataClient client = FlightDataClient.builder(between.url()).callTimeout(PATIENT).connect()) {
      assertFalse(client.datasets().isEmpty());
      between.silence();
      TimedOut error = assertThrows(TimedOut.class, client::datasets);
      assertEquals("timeout", error.code());
      assertTrue(error.said().startsWith("the time limit of this client has passed: "), error.said());
      assertFalse(client.datasets().isEmpty());
      assertEquals(2, between.connections());
    }
  }

  @Test
  void aServerThatDrainsIsLeftForAnother() throws IOException {
    try (Forwarder between = Forwarder.to(Servers.said("scripted"), Servers.said("url"));
        FlightDataClient client = FlightDataClient.connect(between.url())) {
      // Only the other one does not know the dataset.
      assertThrows(NotFound.class, () -> client.plan("code:draining", Map.of()));
      assertEquals(2, between.connections());
    }
  }

  @Test
  void whatIsBusyIsNotLeft() throws IOException {
    try (Forwarder between = Forwarder.to(Servers.said("scripted"), Servers.said("url"));
        FlightDataClient client =
            FlightDataClient.builder(between.url()).retryFor(Duration.ofMillis(400)).connect()) {
      assertThrows(FlightDataException.Unavailable.class, () -> client.plan("code:busy", Map.of()));
      assertEquals(1, between.connections());
    }
  }

  @Test
  void anAnswerThatIsLateIsStopped() {
    try (FlightDataClient client = Servers.client()) {
      Request slow = Request.of("slow_count", Map.of());
      TimedOut error =
          assertThrows(
              TimedOut.class,
              () -> {
                try (BatchStream rows = client.stream(slow, Duration.ofMillis(500))) {
                  rows.hasNext();
                }
              });
      assertEquals("timeout", error.code());
      assertEquals(0, client.allocatedBytes());
      Request quick = Request.of("daily_prices", Map.of("ticker", "IBM", "start_date", "2013-02-26"));
      try (BatchStream rows = client.stream(quick, Duration.ofSeconds(30))) {
        assertEquals(4, rows.next().getRowCount());
        assertFalse(rows.hasNext());
      }
    }
  }

  @Test
  void aLimitIsNotOutlivedByTries() {
    try (FlightDataClient client = Servers.scripted()) {
      Request busy = Request.of("code:busy", Map.of());
      long started = System.nanoTime();
      assertThrows(FlightDataException.class, () -> client.stream(busy, Duration.ofMillis(500)));
      assertTrue(System.nanoTime() - started < Duration.ofSeconds(20).toNanos());
    }
  }

  @Test
  void closingEndsCallsThatWait() throws Exception {
    try (Forwarder between = Forwarder.to(Servers.said("url"))) {
      FlightDataClient client = FlightDataClient.connect(between.url());
      client.datasets();
      between.silence();
      CompletableFuture<Caller> waiting = CompletableFuture.supplyAsync(client::whoami);
      Thread.sleep(300);
      assertFalse(waiting.isDone());
      client.close();
      CompletionException error = assertThrows(CompletionException.class, waiting::join);
      assertEquals(Cancelled.class, error.getCause().getClass());
    }
  }

  @Test
  void aClosedClientSaysSo() {
    FlightDataClient client = Servers.client();
    Submission submitted = client.submission("any");
    BatchStream rows = client.stream("every_column", Map.of());
    client.close();
    client.close();
    assertEquals("the client is closed", assertThrows(IllegalStateException.class, client::datasets).getMessage());
    assertThrows(IllegalStateException.class, submitted::status);
    assertThrows(IllegalStateException.class, rows::hasNext);
  }

  @Test
  void idleConnectionsAreKeptAliveByTheKernel() throws Exception {
    assumeTrue(Files.exists(Path.of("/proc/net/tcp")), "Linux says it there");
    try (Forwarder between = Forwarder.to(Servers.said("url"));
        FlightDataClient client = FlightDataClient.connect(between.url())) {
      client.datasets();
      String port = String.format(":%04X", URI.create(between.url()).getPort());
      // The third word of a line is the peer, the sixth the timer: 02 is that of keepalive, in hundredths of a second.
      Servers.until(
          () ->
              sockets()
                  .map(line -> line.strip().split("\\s+"))
                  .filter(words -> words[2].endsWith(port) && words[5].startsWith("02:"))
                  .anyMatch(words -> Integer.parseInt(words[5].substring(3), 16) <= 3_000));
    }
  }

  private static Stream<String> sockets() {
    try {
      return Stream.concat(
          Files.readAllLines(Path.of("/proc/net/tcp")).stream(),
          Files.exists(Path.of("/proc/net/tcp6"))
              ? Files.readAllLines(Path.of("/proc/net/tcp6")).stream()
              : Stream.of());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
