package io.athenaflight.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class CredentialTest {
  @Test
  void manyThreadsThatMeetTheEndOfASessionLogInOnce() {
    AtomicInteger logins = new AtomicInteger();
    Credential credential = new Credential(null, () -> "Bearer " + logins.incrementAndGet());
    Map<String, String> expired = credential.headers();
    CountDownLatch start = new CountDownLatch(1);
    List<CompletableFuture<Boolean>> renewals =
        IntStream.range(0, 8)
            .mapToObj(
                index ->
                    CompletableFuture.supplyAsync(
                        () -> {
                          await(start);
                          return credential.renewed(expired);
                        }))
            .toList();
    start.countDown();
    assertTrue(renewals.stream().allMatch(CompletableFuture::join));
    assertEquals(Map.of("authorization", "Bearer 2"), credential.headers());
    assertTrue(credential.renewed(credential.headers()));
    assertEquals(3, logins.get());
  }

  @Test
  void aTokenOfAFileHasNoLineEnd() {
    assertEquals(Map.of("authorization", "Bearer af_1"), new Credential(() -> "af_1\n", null).headers());
  }

  @Test
  void aTokenThatIsNoneIsToldAndNotSent() {
    for (String[] each :
        new String[][] {
          {"", "the token is empty"},
          {" \n", "the token is empty"},
          {"af_1\naf_2", "the token has signs that no header can hold"},
          {"af_\u00e4", "the token has signs that no header can hold"}
        }) {
      Credential broken = new Credential(() -> each[0], null);
      assertEquals(each[1], assertThrows(IllegalStateException.class, broken::headers).getMessage());
    }
  }

  @Test
  void whoHasNothingElseHasNothingNew() {
    Credential fixed = new Credential(() -> "af_1", null);
    assertFalse(fixed.renewed(fixed.headers()));
    Credential none = new Credential(() -> null, null);
    assertThrows(IllegalStateException.class, none::headers);
    assertEquals(Map.of(), new Credential(null, null).headers());
  }

  private static void await(CountDownLatch start) {
    try {
      start.await();
    } catch (InterruptedException error) {
      throw new IllegalStateException(error);
    }
  }
}
