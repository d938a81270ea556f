-- KEYS[1] a ledger: sorted set: name -> when it was noted, with its weight; "" -> minus the weight of all of them
-- KEYS[2..] ledgers in the same slot, from which the first name is struck off
-- ARGV: now, life in seconds, the most there may be, whether it must fit ("1"), then names and weights: 0 strikes a name
--       off. Weights are in units of 256 bytes.
-- Answers one text with spaces between: whether it was noted (1 or 0), the weight of all, the weight that the first name
-- had, then names that are too many, the oldest first: at most 100, and a sixteenth more than need be, so that not every
-- call finds some.
-- A score is the time in 1/128 s, times 2^14, plus the weight: names stand in order of age, and what they weigh cannot
-- be lost without them. Scores are exact up to 2^53, which is reached in the year 2106.
local LEDGER, TICKS, WEIGHTS, TOO_MANY_AT_ONCE, PRUNED_AT_ONCE = KEYS[1], 128, 16384, 100, 100
local now, life, most, must_fit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

local function score_at(time)
  return math.floor(time * TICKS) * WEIGHTS
end

-- The weight of `name`, and that of all.
local function weights(ledger, name)
  local one, all = unpack(redis.call('ZMSCORE', ledger, name, ''))
  return one and tonumber(one) % WEIGHTS or 0, 0 - tonumber(all or '0')
end

-- Give `name` its weight, 0 to strike it off, where it had `before` and all had `total`; the weight of all then.
local function put(ledger, name, weight, before, total)
  total = total + weight - before
  if weight > 0 then
    redis.call('ZADD', ledger, score_at(now) + weight, name, 0 - total, '')
  elseif before > 0 then
    redis.call('ZREM', ledger, name)
    redis.call('ZADD', ledger, 0 - total, '')
  end
  return total
end

-- Strike off what has outlived its life: it has expired, or is noted again when it is found.
local function prune()
  local oldest_alive = string.format('(%.0f', score_at(now - life))
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', LEDGER, '(0', oldest_alive, 'LIMIT', 0, PRUNED_AT_ONCE)) do
    put(LEDGER, name, 0, weights(LEDGER, name))
  end
end

local is_there = redis.call('EXPIRE', LEDGER, math.floor(life)) -- needs no memory: a full Redis carries out the rest, too
local before, total = weights(LEDGER, ARGV[5])
local wanted = tonumber(ARGV[6])
if must_fit and wanted > before and total + wanted - before > most then
  prune()
  before, total = weights(LEDGER, ARGV[5])
  if wanted > before and total + wanted - before > most then
    return '0 ' .. total .. ' ' .. before
  end
end
total = put(LEDGER, ARGV[5], math.min(wanted, WEIGHTS - 1), before, total)
for index = 7, #ARGV, 2 do
  total = put(LEDGER, ARGV[index], math.min(tonumber(ARGV[index + 1]), WEIGHTS - 1), weights(LEDGER, ARGV[index]))
end
if is_there == 0 then
  redis.call('EXPIRE', LEDGER, math.floor(life))
end
for index = 2, #KEYS do
  put(KEYS[index], ARGV[5], 0, weights(KEYS[index], ARGV[5]))
end
local answer = {'1', total, before}
if not must_fit and total > most then
  prune()
  local _, left = weights(LEDGER, '')
  answer[2] = left
  for _, name in ipairs(redis.call('ZRANGE', LEDGER, 1, TOO_MANY_AT_ONCE)) do
    if left <= most - most / 16 then
      break
    end
    left = left - weights(LEDGER, name)
    answer[#answer + 1] = name
  end
end
return table.concat(answer, ' ')
