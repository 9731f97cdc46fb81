-- Applies a write to one or more buckets, to all or to none.
--
-- KEYS: of each bucket its hash, the set of its entity's buckets and, if usage is counted, the
--   usage of its day and the set of the entity's days.
-- ARGV: the id of the write; "1" if it is sent again and must not be applied twice whatever
--   came between; how many keys a bucket has; then of each bucket:
--     the id of the last write that the caller has seen, "" if the bucket is missing
--     how many words follow that a bucket gets whose last write that is: fields and values; -1 if
--       the write does not fit it
--     "1" if the bucket is then to be kept for longer
--     the rows, for a bucket that others have written since, packed as a list of texts:
--       the revision of settings that the caller knows
--       the quarter of an hour by which it is full, and for how many ms that is to be kept
--       the resource, as the set has it
--       then of each row:
--         define, mark, used  the fields; used is "" of a rate, and is there of a quota or session
--         want  what the definition begins with
--         def   the definition of a limit that is new, with a bucket; "" if none can be
--         lo    the mark at which it is full; of a period, the least start of the one that is on
--         hi    the greatest mark from which it fits; of a period, the most that may be used
--         n     what is added
--         set   what the mark is below lo, with n; "" if it cannot be; of a period, its start
--     how many numbers of usage there are
--     the words
--     the usage: field and amount of each and, if usage is counted, for how many ms all is kept
-- Answers 1 if it is applied and 0 if not, and all buckets are as the caller knows them. Otherwise
--   {1, hash…} if it is applied, {0, hash…} if not, {2, hash…} if it was before, and {3, hash…} if
--   that cannot be told; each hash as it was before, or 1 if it is as the caller knows it.

local sub = string.sub
local o = redis.call('HGET', KEYS[1], 'o') or ''
-- One bucket that is as it was last seen, and no usage: as a rule that is all.
if #KEYS == 2 and sub(o, 1, 10) == ARGV[4] and ARGV[6] == '' then
  local n = tonumber(ARGV[5])
  if n > 0 then redis.call('HSET', KEYS[1], unpack(ARGV, 9, 8 + n)) end
  return n < 0 and 0 or 1
end

local id, again, stride = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local find, byte = string.find, string.byte
local fits, known, unsure, same = true, false, false, true

-- less compares whole numbers in decimals: doubles are exact up to 15 digits.
local function less(a, b)
  if #a < 16 and #b < 16 then return tonumber(a) < tonumber(b) end
  local an, bn = byte(a) == 45, byte(b) == 45
  if an ~= bn then return an end
  if an then a, b = b, a end
  if #a ~= #b then return #a < #b end
  return a < b -- digits alone, and as many: the locale does not matter
end

-- row decides a row of a bucket whose hash is h, and adds to w what the bucket gets, and to add
-- what is added to it.
local function row(h, r, i, w, add)
  local define, mark, used, n, set = r[i], r[i + 1], r[i + 2], r[i + 7], r[i + 8]
  local d, m = h[define], h[mark]
  if not d then
    if h.o or r[i + 4] == '' then
      fits = false
    elseif n ~= '0' then
      local e = #w
      w[e + 1], w[e + 2], w[e + 3], w[e + 4] = define, r[i + 4], mark, set
      if used ~= '' then w[e + 5], w[e + 6] = used, n end
    end
  elseif sub(d, 1, #r[i + 3]) ~= r[i + 3] then
    fits = false
  elseif used ~= '' then -- what is used is at most 10^15
    local u = h[used]
    if less(m, r[i + 5]) then u = '0' else set = m end
    if less(r[i + 6], u) then
      fits = false
    elseif n ~= '0' then
      local e = #w
      w[e + 1], w[e + 2] = used, string.format('%.0f', tonumber(u) + tonumber(n))
      if set ~= m then w[e + 3], w[e + 4] = mark, set end
    end
  elseif less(m, r[i + 5]) then
    if set == '' then
      fits = false
    elseif n ~= '0' then
      local e = #w
      w[e + 1], w[e + 2] = mark, set
    end
  elseif less(r[i + 6], m) then
    fits = false
  elseif n ~= '0' then
    if #m < 16 and #n < 16 then
      local e = #w
      w[e + 1], w[e + 2] = mark, string.format('%.0f', tonumber(m) + tonumber(n))
    else -- beyond what doubles have
      add[#add + 1], add[#add + 2] = mark, n
    end
  end
end

local buckets, p = {}, 4
for k = 1, #KEYS, stride do
  if k > 1 then o = redis.call('HGET', KEYS[k], 'o') or '' end
  local last, n = ARGV[p], tonumber(ARGV[p + 1])
  local b = {o = o, at = p + 3, from = p + 5, n = n, old = 1}
  if sub(o, 1, 10) == last then
    if n < 0 then fits = false end
    b.longer = ARGV[p + 2] ~= ''
  else
    same = false
    if find(o, id, 1, true) then known = true end
    if again and not (last ~= '' and find(o, last, 1, true)) then unsure = true end
    local all, h, r, w, add = redis.call('HGETALL', KEYS[k]), {}, cmsgpack.unpack(ARGV[p + 3]), {}, {}
    for i = 1, #all, 2 do h[all[i]] = all[i + 1] end
    if h.s and less(r[1], h.s) then fits = false end
    for i = 5, #r, 9 do row(h, r, i, w, add) end
    if #w + #add > 0 then
      local e = #w
      w[e + 1], w[e + 2] = 'o', id .. sub(o, 1, 30)
      if not h.x or less(h.x, r[2]) then
        w[e + 3], w[e + 4] = 'x', r[2]
        b.longer = true
      end
    end
    b.old, b.w, b.add = all, w, add
  end
  b.uses = p + 5 + math.max(n, 0)
  b.count = tonumber(ARGV[p + 4])
  p = b.uses + 2 * b.count + (stride == 4 and 1 or 0)
  buckets[#buckets + 1] = b
end

local verdict = known and 2 or unsure and 3 or fits and 1 or 0
local answer = {verdict}
for i = 1, #buckets do answer[i + 1] = buckets[i].old end
if same then answer = verdict end
if verdict ~= 1 then return answer end

for i = 1, #buckets do
  local b, k = buckets[i], stride * (i - 1) + 1
  if b.w then
    if #b.w > 0 then redis.call('HSET', KEYS[k], unpack(b.w)) end
    for j = 1, #b.add, 2 do redis.call('HINCRBY', KEYS[k], b.add[j], b.add[j + 1]) end
  elseif b.n > 0 then
    redis.call('HSET', KEYS[k], unpack(ARGV, b.from, b.from + b.n - 1))
  end
  if b.longer then
    local r = cmsgpack.unpack(ARGV[b.at])
    redis.call('PEXPIRE', KEYS[k], r[3])
    if b.o == '' then redis.call('ZADD', KEYS[k + 1], 0, r[4]) end
    redis.call('PEXPIRE', KEYS[k + 1], r[3], 'NX')
    redis.call('PEXPIRE', KEYS[k + 1], r[3], 'GT')
  end
  local new, ends = false, b.uses + 2 * b.count
  for j = b.uses, ends - 2, 2 do
    local n = redis.pcall('HINCRBY', KEYS[k + 2], ARGV[j], ARGV[j + 1])
    if type(n) == 'table' then -- beyond int64: it stays at its end
      redis.call('HSET', KEYS[k + 2], ARGV[j], byte(ARGV[j + 1]) == 45 and '-9223372036854775808' or '9223372036854775807')
    elseif n == tonumber(ARGV[j + 1]) then
      new = true
    end
  end
  if new then
    redis.call('PEXPIRE', KEYS[k + 2], ARGV[ends])
    redis.call('ZADD', KEYS[k + 3], 0, sub(KEYS[k + 2], -10))
    redis.call('PEXPIRE', KEYS[k + 3], ARGV[ends])
  end
end
return answer
