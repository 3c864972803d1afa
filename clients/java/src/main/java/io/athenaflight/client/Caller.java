package io.athenaflight.client;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.time.Instant;
import java.util.List;

/**
 * Who the server takes this client for, and what is left of what that caller may spend.
 *
 * @param name as audit lines have it; {@code anonymous} where the server asks nobody who they are
 * @param roles in order; {@code *} stands for all of them
 * @param budget dollars of the day; null where the server has no limit of dollars
 * @param statements SQL statements; null where the server asks nobody who they are
 */
public record Caller(String name, List<String> roles, Budget budget, Statements statements) {

  /**
   * Dollars of today.
   *
   * @param usdPerDay null where this caller may spend without end
   * @param leftUsd null where this caller may spend without end
   * @param renews when the next day begins for the server
   */
  public record Budget(
      @JsonProperty("usd_per_day") Double usdPerDay,
      @JsonProperty("spent_usd") double spentUsd,
      @JsonProperty("left_usd") Double leftUsd,
      Instant renews) {}

  /**
   * The rate of SQL statements that run.
   *
   * @param perMinute how many come back each minute
   * @param atOnce the most that there can be
   * @param left how many may run now
   */
  public record Statements(@JsonProperty("per_minute") double perMinute, @JsonProperty("at_once") int atOnce, int left) {}
}
