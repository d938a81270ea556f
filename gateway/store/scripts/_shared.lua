-- Put before every script below: the task's keys, and what several scripts do with them.
--   KEYS[1] gw:{id}         hash: the task's fields, and
--           version         rises by one with every change
--           owner_key       names the owner's channel
--           ops             the last changes: " <op id>=<version> ..."; writer_op: the one that made the writer
--           speed           bytes per second; window_at, window_bytes: what was stored since when, not yet in speed
--   KEYS[2] gw:{id}:parts   hash: part number -> "<size> <crc64> <attempt> <etag>"
--   KEYS[3] gw:{id}:tail    string: bytes after the contiguous parts
--   KEYS[4] gw:{id}:bodies  hash: part number -> JSON {attempt: whether another body overlapped with it, or "asking"}
-- Times are Unix seconds, from the caller's clock. Answers are one JSON text: a reply of 40 elements takes redis-py
-- five times as long to read.

local TASK, PARTS, TAIL, BODIES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local OPS_KEPT = 16
local SPEED_WINDOW_SECONDS, SPEED_MEMORY_SECONDS, IDLE_SECONDS = 1, 2, 10

local function number_of(text)
  return tonumber(text or '0')
end

local function whole(number)
  return string.format('%.0f', number)
end

local function answer(outcome, ...)
  return cjson.encode({outcome, redis.call('HGETALL', TASK), ...})
end

-- The state that `moves` (" from>to from>to ") lists for `state`, or nil.
local function moved(moves, state)
  return string.match(moves, ' ' .. state .. '>(%a+) ')
end

-- Every key of the task lives at least `ttl` seconds from now; a hundredth more saves the write most times.
local function keep(ttl)
  for _, key in ipairs(KEYS) do
    local left = redis.call('TTL', key)
    if left ~= -2 and left < ttl then
      redis.call('EXPIRE', key, ttl + math.floor(ttl / 100))
    end
  end
end

-- A full Redis refuses a script's first write if that may need memory, and no later one. Scripts that end or stop
-- something, or note what COS holds by then, call this before they write: they add little, and what ends gives memory
-- back. (Redis 7 has a flag for it, 6.2 has not.)
local function allow_when_full()
  redis.call('HDEL', TASK, '')
end

local function tell_control()
  redis.call('PUBLISH', 'gw:control', string.match(TASK, '{(.*)}'))
end

-- Write `fields` (name, value, ...) as the next version, and tell whoever watches.
local function commit(now, ttl, fields)
  local known = redis.call('HMGET', TASK, 'version', 'owner_key')
  local version = whole(number_of(known[1]) + 1)
  redis.call('HSET', TASK, 'version', version, 'updated_at', now, unpack(fields))
  keep(ttl)
  redis.call('PUBLISH', 'gw:progress:' .. (known[2] or ''), string.match(TASK, '{(.*)}') .. ' ' .. version)
  return version
end

-- The version that the change `op` made, when it is one of the last, else nil.
local function version_of(op)
  return string.match(redis.call('HGET', TASK, 'ops') or '', ' ' .. op .. '=(%d+)')
end

-- The ring of changes with `op` added, as commit() is about to make it.
local function ops_with(op)
  local known = redis.call('HMGET', TASK, 'ops', 'version')
  local ops = (known[1] or '') .. ' ' .. op .. '=' .. whole(number_of(known[2]) + 1)
  local _, count = string.gsub(ops, '=', '')
  if count > OPS_KEPT then
    ops = string.match(ops, '^ [^ ]+(.*)$')
  end
  return ops
end

-- Begin to measure the speed anew after a pause in the flow of bytes.
local function open_window(now)
  local since = number_of(redis.call('HGET', TASK, 'window_at'))
  if since > tonumber(now) or tonumber(now) - since > IDLE_SECONDS then
    redis.call('HSET', TASK, 'window_at', now, 'window_bytes', 0, 'speed', 0)
  end
end

-- Add to `fields` what `size` more bytes make of the speed: an average that forgets within seconds.
local function measure(now, size, fields)
  local known = redis.call('HMGET', TASK, 'window_at', 'window_bytes', 'speed')
  local seconds = known[1] and tonumber(now) - tonumber(known[1]) or -1
  local bytes, speed = number_of(known[2]) + size, number_of(known[3])
  if seconds >= SPEED_WINDOW_SECONDS then
    local weight = speed > 0 and 1 - math.exp(-seconds / SPEED_MEMORY_SECONDS) or 1
    fields[#fields + 1], fields[#fields + 2] = 'speed', whole(speed + weight * (bytes / seconds - speed))
  end
  if seconds < 0 or seconds >= SPEED_WINDOW_SECONDS then
    fields[#fields + 1], fields[#fields + 2] = 'window_at', now
    bytes = 0
  end
  fields[#fields + 1], fields[#fields + 2] = 'window_bytes', whole(bytes)
end

local function size_of(record)
  return tonumber(string.match(record, '^%d+'))
end

-- Any key may vanish: whether the task's parts have, while it counts some. Then COS is asked and `refill` comes.
local function forgotten()
  local known = redis.call('HMGET', TASK, 'state', 'stored_count')
  local final = known[1] == 'success' or known[1] == 'canceled'
  return not final and number_of(known[2]) > 0 and redis.call('EXISTS', PARTS) == 0
end

-- A tail that is gone counts no longer, and is sent again.
local function mend(now, ttl)
  local known = redis.call('HMGET', TASK, 'tail_size', 'loaded', 'next_offset')
  local tail = number_of(known[1])
  if tail ~= redis.call('STRLEN', TAIL) then
    redis.call('DEL', TAIL)
    local loaded, offset = number_of(known[2]) - tail, number_of(known[3]) - tail
    commit(now, ttl, {'loaded', whole(loaded), 'next_offset', whole(offset), 'tail_size', 0})
  end
end

-- Store one part and return the fields that follow: bytes and counts, whatever order parts come in.
-- The tail lies in the bytes of the part after the contiguous ones: that part consumes it.
local function put_part(number, record)
  local before = redis.call('HGET', PARTS, number)
  local known = redis.call('HMGET', TASK, 'loaded', 'stored_count', 'contiguous_count', 'next_offset', 'tail_size')
  local count, tail = number_of(known[3]), number_of(known[5])
  local gained = size_of(record) - (before and size_of(before) or 0)
  local loaded, offset = number_of(known[1]) + gained, number_of(known[4])
  redis.call('HSET', PARTS, number, record)
  if number <= count then
    offset = offset + gained
  elseif number == count + 1 then
    loaded, offset, tail = loaded - tail, offset - tail, 0
    redis.call('DEL', TAIL)
    local following = record
    while following do
      count, offset = count + 1, offset + size_of(following)
      following = redis.call('HGET', PARTS, count + 1)
    end
  end
  return {
    'loaded', whole(loaded), 'stored_count', whole(number_of(known[2]) + (before and 0 or 1)),
    'contiguous_count', whole(count), 'next_offset', whole(offset), 'tail_size', whole(tail),
  }
end
