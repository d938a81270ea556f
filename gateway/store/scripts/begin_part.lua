-- KEYS[1] gw:{id}, the task's hash: read; its speed window opens when nothing flowed
-- KEYS[2] gw:{id}:parts: the part as it stands is read
-- KEYS[4] gw:{id}:bodies: the attempt is noted; it and those already there overlap
-- ARGV: now, ttl, part number, attempt, owner ("": anybody's), prefix of the keys, "any" place or "of" those that follow:
--   bucket, prefix, ...
-- Answers "ok" with the task, the stored part or false, whether the attempt overlaps with another, and of how many parts
-- bodies were in flight before; "gone" also for another owner's task, and for one outside of prefix and places, of which
-- nothing is noted; "forgotten" when the parts have vanished.
local now, ttl, number, attempt, owner, prefix, places = unpack(ARGV, 1, 7)
local MOST_ATTEMPTS = 16 -- an attempt that is not noted counts as overlapping
local owned_by, bucket, key = unpack(redis.call('HMGET', TASK, 'owner', 'bucket', 'key'))
local is_inside = places == 'any'
for at = 8, #ARGV, 2 do
  is_inside = is_inside or (ARGV[at] == bucket and string.sub(key, 1, #ARGV[at + 1]) == ARGV[at + 1])
end
if not owned_by or (owner ~= '' and owner ~= owned_by) or not is_inside or string.sub(key, 1, #prefix) ~= prefix then
  return answer('gone')
end
if forgotten() then
  return answer('forgotten')
end
local in_flight = redis.call('HLEN', BODIES)
if in_flight == 0 then
  open_window(now)
end
local bodies = cjson.decode(redis.call('HGET', BODIES, number) or '{}')
if bodies[attempt] == nil then
  local others = 0
  for other in pairs(bodies) do
    bodies[other] = true
    others = others + 1
  end
  if others >= MOST_ATTEMPTS then
    bodies = {}
  end
  bodies[attempt] = others > 0
  redis.call('HSET', BODIES, number, cjson.encode(bodies))
  keep(tonumber(ttl))
end
return answer('ok', redis.call('HGET', PARTS, number), bodies[attempt], in_flight)
