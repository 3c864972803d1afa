package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.athenaflight.client.FlightDataException.Unauthenticated;
import io.athenaflight.client.FlightDataException.Unavailable;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Credentials and TLS, over tables whose row policies show who asked. */
@Timeout(60)
class AccessTest {
  @Test
  void aTokenSaysWhoAsks() {
    try (FlightDataClient client =
        FlightDataClient.builder(Servers.said("auth")).token(Servers.said("token")).connect()) {
      assertEquals(Set.of(1, 2), ports(client));
    }
  }

  @Test
  void aTokenIsAskedForBeforeEachCallAndOnceMoreWhenItHasExpired() {
    AtomicReference<String> vault = new AtomicReference<>("af_wrong");
    try (FlightDataClient client = FlightDataClient.builder(Servers.said("auth")).token(vault::get).connect()) {
      assertEquals("bad-credential", assertThrows(Unauthenticated.class, client::whoami).code());
      vault.set(Servers.said("late"));
      assertEquals("expired-credential", assertThrows(Unauthenticated.class, client::whoami).code());
      vault.set(Servers.said("token") + "\n");
      assertEquals("alice", client.whoami().name());
    }
    Iterator<String> tokens = List.of(Servers.said("late"), Servers.said("token"), Servers.said("token")).iterator();
    try (FlightDataClient client = FlightDataClient.builder(Servers.said("auth")).token(tokens::next).connect()) {
      assertEquals("alice", client.whoami().name());
    }
  }

  @Test
  void aCallerLearnsWhoItIsAndWhatIsLeft() {
    try (FlightDataClient alice =
            FlightDataClient.builder(Servers.said("auth")).token(Servers.said("token")).connect();
        FlightDataClient erin =
            FlightDataClient.builder(Servers.said("auth"))
                .login(Servers.said("user"), Servers.said("password"))
                .connect();
        FlightDataClient anyone = Servers.client()) {
      Caller said = alice.whoami();
      assertEquals("alice", said.name());
      assertEquals(List.of("pm"), said.roles());
      assertEquals(2.5, said.budget().usdPerDay());
      assertEquals(2.5, said.budget().spentUsd() + said.budget().leftUsd(), 1e-9);
      Duration ahead = Duration.between(Instant.now(), said.budget().renews());
      assertTrue(!ahead.isNegative() && ahead.compareTo(Duration.ofDays(1)) <= 0, ahead.toString());
      assertEquals(new Caller.Statements(600_000, 10_000, 10_000), said.statements());
      assertNull(erin.whoami().budget().usdPerDay());
      assertNull(erin.whoami().budget().leftUsd());
      assertEquals(new Caller("anonymous", List.of("*"), null, null), anyone.whoami());
    }
  }

  @Test
  void aWrongTokenAndNoneAreTold() {
    try (FlightDataClient wrong = FlightDataClient.builder(Servers.said("auth")).token("af_wrong").connect();
        FlightDataClient none = FlightDataClient.connect(Servers.said("auth"))) {
      assertEquals("bad-credential", assertThrows(Unauthenticated.class, wrong::datasets).code());
      assertEquals("no-credential", assertThrows(Unauthenticated.class, () -> ports(none)).code());
    }
  }

  @Test
  void aPasswordIsAnsweredByATokenThatIsRenewed() throws InterruptedException {
    try (FlightDataClient client =
        FlightDataClient.builder(Servers.said("auth"))
            .login(Servers.said("user"), Servers.said("password"))
            .connect()) {
      assertEquals(Set.of(2), ports(client));
      // The server's sessions last a second.
      Thread.sleep(1_500);
      assertEquals(Set.of(2), ports(client));
      try (BatchStream rows = client.stream("nav", Map.of())) {
        Thread.sleep(1_500);
        assertTrue(rows.hasNext());
      }
    }
  }

  @Test
  void aServerThatStartedAnewIsLoggedInToAgain() throws Exception {
    try (Forwarder between = Forwarder.to(Servers.said("auth"), Servers.said("anew"));
        FlightDataClient client =
            FlightDataClient.builder(between.url()).login(Servers.said("user"), Servers.said("password")).connect()) {
      assertEquals(Set.of(2), ports(client));
      between.cut();
      Servers.until(
          () -> {
            try {
              return ports(client).equals(Set.of(2));
            } catch (Unavailable error) {
              // A call just as its connection ended.
              return false;
            }
          });
      assertEquals(2, between.connections());
    }
  }

  @Test
  void aWrongPasswordIsToldAtOnceAndNotRepeated() {
    ClientBuilder wrong = FlightDataClient.builder(Servers.said("auth")).login(Servers.said("user"), "a-secret-word");
    Unauthenticated error = assertThrows(Unauthenticated.class, wrong::connect);
    assertEquals("bad-credential", error.code());
    assertFalse(error.toString().contains("a-secret-word"));
  }

  @Test
  void anAuthorityOfOnesOwnIsTrusted() {
    try (FlightDataClient client =
        FlightDataClient.builder(Servers.said("tls"))
            .tlsRoots(Path.of(Servers.said("ca")))
            .token(Servers.said("token"))
            .connect()) {
      assertEquals(Set.of(1, 2), ports(client));
    }
  }

  @Test
  void anAddressThatIsNearlyRightSaysWhatToWrite() {
    String tls = Servers.said("tls");
    try (FlightDataClient stranger =
            FlightDataClient.builder(tls).tlsRoots(Path.of(Servers.said("stranger"))).connect();
        FlightDataClient unknown = FlightDataClient.connect(tls);
        FlightDataClient plain = FlightDataClient.connect(tls.replace("grpc+tls", "grpc"));
        FlightDataClient covered = FlightDataClient.connect(Servers.said("url").replace("grpc", "grpc+tls"));
        FlightDataClient http = FlightDataClient.connect(Servers.said("http"))) {
      assertUnreachable("tlsRoots names the PEM file", stranger);
      assertUnreachable("tlsRoots names the PEM file", unknown);
      assertUnreachable("if it speaks TLS, write grpc+tls://", plain);
      assertUnreachable("it speaks no TLS, write grpc://", covered);
      assertUnreachable("this is not the port of Flight", http);
    }
  }

  @Test
  void theHealthPortIsTold() {
    try (FlightDataClient health = FlightDataClient.connect(Servers.said("health"))) {
      assertEquals(
          "Method not found!; this is not the port of Flight, 8815 unless set otherwise",
          assertThrows(FlightDataException.Unsupported.class, health::datasets).said());
    }
  }

  @Test
  void anAddressEndsWithThePort() {
    String said = assertThrows(IllegalArgumentException.class, () -> FlightDataClient.connect("grpc://x:1/prices")).getMessage();
    assertEquals("grpc://x:1/prices is no address of a server; write grpc://host:port, or grpc+tls://host:port", said);
    FlightDataClient.connect("grpc://x:1/").close();
  }

  @Test
  void aClientCertificateIsTheIdentity() {
    Path ca = Path.of(Servers.said("ca"));
    try (FlightDataClient client =
            FlightDataClient.builder(Servers.said("mtls"))
                .tlsRoots(ca)
                .clientCertificate(Path.of(Servers.said("cert")), Path.of(Servers.said("key")))
                .connect();
        FlightDataClient without = FlightDataClient.builder(Servers.said("mtls")).tlsRoots(ca).connect()) {
      assertEquals(Set.of(4), ports(client));
      assertThrows(FlightDataException.class, without::datasets);
    }
  }

  @Test
  void whatDoesNotGoTogetherIsRefused() {
    assertThrows(
        IllegalArgumentException.class,
        () -> FlightDataClient.builder("grpc://localhost:1").token("x").login("a", "b").connect());
    assertThrows(
        IllegalArgumentException.class,
        () -> FlightDataClient.builder("grpc://localhost:1").tlsRoots(Path.of("ca.pem")).connect());
    assertThrows(
        UncheckedIOException.class,
        () -> FlightDataClient.builder("grpc+tls://localhost:1").tlsRoots(Path.of("no/such.pem")).connect());
  }

  private static void assertUnreachable(String hint, FlightDataClient client) {
    Unavailable error = assertThrows(Unavailable.class, client::datasets);
    assertEquals("unreachable", error.code());
    assertTrue(error.said().contains("; " + hint), error.said());
  }

  private static Set<Object> ports(FlightDataClient client) {
    Set<Object> found = new TreeSet<>();
    try (BatchStream rows = client.stream("nav", Map.of())) {
      for (VectorSchemaRoot batch : rows) {
        for (int row = 0; row < batch.getRowCount(); row++) {
          found.add(batch.getVector("port_id").getObject(row));
        }
      }
    }
    return found;
  }
}
