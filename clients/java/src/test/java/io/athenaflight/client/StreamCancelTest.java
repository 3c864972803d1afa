package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.Cancelled;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Streams that are cancelled, closed or interrupted while somebody waits for them. */
@Timeout(60)
class StreamCancelTest {
  @Test
  void anotherThreadCancelsWhoWaits() throws Exception {
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("slow_count", Map.of())) {
      CompletableFuture<Boolean> waiting = CompletableFuture.supplyAsync(rows::hasNext);
      Thread.sleep(300);
      assertFalse(waiting.isDone());
      rows.cancel();
      CompletionException error = assertThrows(CompletionException.class, waiting::join);
      assertEquals(Cancelled.class, error.getCause().getClass());
      assertEquals("cancelled", ((Cancelled) error.getCause()).code());
      assertThrows(Cancelled.class, rows::hasNext);
    }
  }

  @Test
  void closingDoesNotWaitForTheNextTry() throws Exception {
    try (FlightDataClient client = triedAgainAfterTheTest()) {
      BatchStream rows = client.stream("always-busy-get", Map.of());
      CompletableFuture<Boolean> waiting = CompletableFuture.supplyAsync(rows::hasNext);
      Servers.until(() -> Servers.told("calls", "always-busy-get").contains("get"));
      rows.close();
      CompletionException error = assertThrows(CompletionException.class, waiting::join);
      assertEquals(Cancelled.class, error.getCause().getClass());
      assertThrows(Cancelled.class, rows::hasNext);
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void closingTheClientEndsWhoWaitsForTheNextTry() throws Exception {
    FlightDataClient client = triedAgainAfterTheTest();
    CompletableFuture<Plan> waiting = CompletableFuture.supplyAsync(() -> client.plan("always-busy-info", Map.of()));
    Servers.until(() -> Servers.told("calls", "always-busy-info").contains("info"));
    client.close();
    CompletionException error = assertThrows(CompletionException.class, waiting::join);
    assertEquals(Cancelled.class, error.getCause().getClass());
  }

  @Test
  void anInterruptCancelsAndFreesAll() throws Exception {
    try (FlightDataClient client = Servers.client();
        BatchStream rows = client.stream("slow_count", Map.of())) {
      CompletableFuture<Boolean> interrupted = new CompletableFuture<>();
      Thread reader =
          new Thread(
              () -> {
                assertThrows(Cancelled.class, rows::hasNext);
                interrupted.complete(Thread.currentThread().isInterrupted());
              });
      reader.start();
      Thread.sleep(300);
      reader.interrupt();
      assertTrue(interrupted.get());
      assertEquals(0, client.allocatedBytes());
    }
  }

  @Test
  void aThreadThatIsInterruptedAlreadyFreesAllTheSame() {
    try (FlightDataClient client = Servers.client()) {
      BatchStream rows = client.stream("slow_rows", Map.of());
      rows.next();
      Thread.currentThread().interrupt();
      rows.close();
      assertTrue(Thread.interrupted());
      assertEquals(0, client.allocatedBytes());
    }
  }

  /** A client whose pause between two tries lasts longer than a test may. */
  private static FlightDataClient triedAgainAfterTheTest() {
    return FlightDataClient.builder(Servers.said("scripted"))
        .retryFor(Duration.ofDays(1))
        .retryFirst(Duration.ofMinutes(3))
        .connect();
  }
}
