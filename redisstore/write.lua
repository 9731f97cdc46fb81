-- Makes changes under conditions, all or none.
--
-- KEYS: of hashes with conditions first, then others.
-- ARGV: the id of the write; how many conditions; for each the number of its key, a field of it,
--   and the id with which that has to begin, "" if it has to be missing; then the commands, each
--   with the number of its words, its name, the number of its key and the further words.
--   Some are none of the server's:
--     DROP set prefix             deletes the keys whose names are prefix and a member, and the set
--     MARK set prefix rev [member]  notes a revision of settings in these buckets, or in one
--     KEEP bucket set ms member   keeps a bucket that long, and its member of the set of its entity's
--     COUNT usage days ms {field n} adds to the usage of a day, and the day to a set
-- Answers {1} if it is applied, {2, hash…} if it was before, and otherwise {0, hash…}: those of
--   the conditions.

local id, conditions = ARGV[1], tonumber(ARGV[2])
local fits, known, p = true, false, 3
for _ = 1, conditions do
  local is = redis.call('HGET', KEYS[tonumber(ARGV[p])], ARGV[p + 1])
  if is and string.find(is, id, 1, true) then known = true end
  if (is and string.sub(is, 1, 8) or '') ~= ARGV[p + 2] then fits = false end
  p = p + 3
end
if known or not fits then
  local answer = {known and 2 or 0}
  for i = 1, conditions do answer[i + 1] = redis.call('HGETALL', KEYS[tonumber(ARGV[3 * i])]) end
  return answer
end

while p <= #ARGV do
  local n, name, key = tonumber(ARGV[p]), ARGV[p + 1], KEYS[tonumber(ARGV[p + 2])]
  if name == 'DROP' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('DEL', ARGV[p + 3] .. member) end
    redis.call('DEL', key)
  elseif name == 'MARK' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local bucket = ARGV[p + 3] .. member
      local o = redis.call('HGET', bucket, 'o')
      if o and (n == 4 or ARGV[p + 5] == member) then
        redis.call('HSET', bucket, 's', ARGV[p + 4], 'o', id .. string.sub(o, 1, 24))
      end
    end
  elseif name == 'KEEP' then
    local set, ms = KEYS[tonumber(ARGV[p + 3])], ARGV[p + 4]
    local minute = redis.call('TIME')[1] / 60
    redis.call('PEXPIRE', key, ms)
    redis.call('ZREMRANGEBYSCORE', set, '-inf', string.format('(%.0f', math.floor(minute))) -- buckets that have expired
    redis.call('ZADD', set, string.format('%.0f', math.ceil(minute + ms / 60000)), ARGV[p + 5])
    redis.call('PEXPIRE', set, ms, 'NX')
    redis.call('PEXPIRE', set, ms, 'GT')
  elseif name == 'COUNT' then
    for i = p + 5, p + n, 2 do
      if type(redis.pcall('HINCRBY', key, ARGV[i], ARGV[i + 1])) == 'table' then -- beyond int64: it stays at its end
        redis.call('HSET', key, ARGV[i], string.byte(ARGV[i + 1]) == 45 and '-9223372036854775808' or '9223372036854775807')
      end
    end
    local days = KEYS[tonumber(ARGV[p + 3])]
    redis.call('PEXPIRE', key, ARGV[p + 4])
    redis.call('ZADD', days, 0, string.sub(key, -10))
    redis.call('PEXPIRE', days, ARGV[p + 4])
  else
    redis.call(name, key, unpack(ARGV, p + 3, p + n))
  end
  p = p + n + 1
end
return {1}
