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
local total

local function score_at(time)
  return math.floor(time * TICKS) * WEIGHTS
end

local function weight_of(ledger, name)
  local score = redis.call('ZSCORE', ledger, name)
  return score and tonumber(score) % WEIGHTS or 0
end

-- Give `name` its weight, 0 to strike it off, and return the one that it had.
local function put(ledger, name, weight)
  local before = weight_of(ledger, name)
  if weight > 0 then
    redis.call('ZADD', ledger, score_at(now) + weight, name)
  elseif before > 0 then
    redis.call('ZREM', ledger, name)
  end
  if weight ~= before then
    local left = redis.call('ZINCRBY', ledger, before - weight, '')
    total = ledger == LEDGER and -tonumber(left) or total
  end
  return before
end

local function sum()
  total = total or -tonumber(redis.call('ZSCORE', LEDGER, '') or '0')
  return total
end

-- Strike off what has outlived its life: it has expired, or is noted again when it is found.
local function prune()
  local oldest_alive = string.format('(%.0f', score_at(now - life))
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', LEDGER, '(0', oldest_alive, 'LIMIT', 0, PRUNED_AT_ONCE)) do
    put(LEDGER, name, 0)
  end
end

local is_there = redis.call('EXPIRE', LEDGER, math.floor(life)) -- needs no memory: a full Redis carries out the rest, too
if must_fit then
  local gained = tonumber(ARGV[6]) - weight_of(LEDGER, ARGV[5])
  if gained > 0 and sum() + gained > most then
    prune()
    if sum() + gained > most then
      return '0 ' .. sum() .. ' ' .. weight_of(LEDGER, ARGV[5])
    end
  end
end
local first = put(LEDGER, ARGV[5], math.min(tonumber(ARGV[6]), WEIGHTS - 1))
for index = 7, #ARGV, 2 do
  put(LEDGER, ARGV[index], math.min(tonumber(ARGV[index + 1]), WEIGHTS - 1))
end
if is_there == 0 then
  redis.call('EXPIRE', LEDGER, math.floor(life))
end
for index = 2, #KEYS do
  put(KEYS[index], ARGV[5], 0)
end
local answer = {'1', sum(), first}
if not must_fit and total > most then
  prune()
  answer[2] = total
  local left = total
  for _, name in ipairs(redis.call('ZRANGE', LEDGER, 1, TOO_MANY_AT_ONCE)) do
    if left <= most - most / 16 then
      break
    end
    left = left - weight_of(LEDGER, name)
    answer[#answer + 1] = name
  end
end
return table.concat(answer, ' ')
