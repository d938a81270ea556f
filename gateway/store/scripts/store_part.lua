-- KEYS[1] gw:{id}, the task's hash: counts, speed, mode and state follow the part
-- KEYS[2] gw:{id}:parts: the part is written
-- KEYS[3] gw:{id}:tail: only read through its size; parts mode has none
-- KEYS[4] gw:{id}:bodies: the attempt ends
-- ARGV: now, ttl, moves, upload id, part number, part record, attempt, whether List Parts decided ("1")
-- Answers "ok" with the task, also for the same attempt again; "gone"; "state", "upload" or "mode" when the task takes
-- no such part; "overlap" when another body for this part overlapped, or nobody knows, and nothing was decided since
-- this script last said so: whoever stores a part makes all others ask List Parts again. "forgotten" when the parts
-- have vanished.
local now, ttl, moves, upload_id, number, record, attempt, decided = unpack(ARGV)
local known = redis.call('HMGET', TASK, 'state', 'upload_id', 'mode')
if not known[1] then
  return answer('gone')
end
local before = redis.call('HGET', PARTS, number)
if before and string.match(before, '^%S+ %S+ (%S+) ') == attempt then
  return answer('ok')
end
local state = moved(moves, known[1])
if not state then
  return answer('state')
end
if (known[2] or '') ~= upload_id then
  return answer('upload')
end
if (known[3] or 'parts') ~= 'parts' then
  return answer('mode')
end
if forgotten() then
  return answer('forgotten')
end
local bodies = cjson.decode(redis.call('HGET', BODIES, number) or '{}')
local asking = decided == '1' and bodies[attempt] == 'asking'
if bodies[attempt] ~= false and not asking then
  bodies[attempt] = 'asking'
  allow_when_full()
  redis.call('HSET', BODIES, number, cjson.encode(bodies))
  keep(tonumber(ttl))
  return answer('overlap')
end
bodies[attempt] = nil
for other in pairs(bodies) do
  bodies[other] = true
end
if next(bodies) == nil then
  redis.call('HDEL', BODIES, number) -- as good as allow_when_full()
else
  allow_when_full()
  redis.call('HSET', BODIES, number, cjson.encode(bodies))
end
mend(now, tonumber(ttl))
local fields = put_part(tonumber(number), record)
measure(now, size_of(record), fields)
if state ~= known[1] then
  fields[#fields + 1], fields[#fields + 2] = 'state', state
end
if not known[3] then
  fields[#fields + 1], fields[#fields + 2] = 'mode', 'parts'
end
commit(now, tonumber(ttl), fields)
return answer('ok')
